//! A table by declaration: its columns stand once, and the SQL follows from them.

use std::{collections::BTreeMap, fmt::Display, future::Future, str::FromStr};

use quadrille_core::changed;
use sqlx::{
    Encode, FromRow, PgConnection, Postgres, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgHasArrayType, PgRow, PgTypeInfo},
    query::Query,
};

/// Declares a table's columns as a struct, a field per column.
///
/// ```
/// quadrille_runtime::table! {
///     /// An order's payment.
///     pub struct PaymentRow in "payment" stamps changed_at {
///         key order_id: uuid::Uuid,
///         version: i64,
///         charge_id: Option<String>,
///     }
/// }
/// ```
///
/// A field's type is one that sqlx reads and writes, singly and as an array. A column that has no such type travels as another:
/// `waiting: String as "uuid[]"` is a `uuid[]` in the table and a text on its way. `stamps` names a column of the time of the last save, where
/// the table has one ([`Ended`](crate::Ended) wants it). Every column but the key has a default: a row is made with its key alone.
///
/// What the rows mean is told by [`Mapped`], which loads and saves them.
#[macro_export]
macro_rules! table {
    (
        $(#[$meta:meta])*
        $vis:vis struct $row:ident in $table:literal $(stamps $stamp:ident)? {
            key $key:ident: $key_type:ty,
            $($column:ident: $type:ty $(as $in_table:literal)?),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(sqlx::FromRow)]
        $vis struct $row {
            $key: $key_type,
            $($column: $type),+
        }

        impl $crate::table::Row for $row {
            type Key = $key_type;

            fn sql() -> &'static $crate::table::Sql {
                static SQL: std::sync::LazyLock<$crate::table::Sql> = std::sync::LazyLock::new(|| {
                    let key = $crate::table::Column::new::<$key_type>(stringify!($key));
                    let columns =
                        [$($crate::table::Column::new::<$type>(stringify!($column))$(.stored_as($in_table))?),+];
                    $crate::table::Sql::new($table, &key, &columns, &[$(stringify!($stamp))?])
                });
                &SQL
            }

            fn key(&self) -> &Self::Key {
                &self.$key
            }

            fn bind(rows: Vec<Self>, save: $crate::table::Save) -> $crate::table::Save {
                let mut $key = Vec::with_capacity(rows.len());
                $(let mut $column = Vec::with_capacity(rows.len());)+
                for row in rows {
                    $key.push(row.$key);
                    $($column.push(row.$column);)+
                }
                save.bind($key)$(.bind($column))+
            }
        }
    };
}

/// A statement whose parameters are bound.
pub type Save = Query<'static, Postgres, PgArguments>;

/// A row as its table has it. [`table!`](crate::table!) implements it.
pub trait Row: for<'r> FromRow<'r, PgRow> + Send + Unpin {
    /// The key's type: a UUID, or a text.
    type Key: FromStr<Err: Into<BoxDynError>>
        + Display
        + Send
        + Sync
        + Type<Postgres>
        + PgHasArrayType
        + for<'q> Encode<'q, Postgres>;

    /// The table's statements.
    fn sql() -> &'static Sql;

    /// The row's key.
    fn key(&self) -> &Self::Key;

    /// Binds `rows` to [`Sql::save`], an array per column.
    fn bind(rows: Vec<Self>, save: Save) -> Save;
}

/// What the rows of a table mean: values of a policy's state, by key.
pub trait Mapped: Row {
    /// What the state has of a row.
    type Value: PartialEq + Send + Sync;

    /// The row of `value`.
    fn from_value(key: Self::Key, value: &Self::Value) -> Self;

    /// The value of a row; an error where the row is none that [`Self::from_value`] makes.
    fn into_value(self) -> sqlx::Result<Self::Value>;

    /// Makes the rows that are missing, then locks all in the order of their keys, and puts them into `state`.
    ///
    /// Two instances that touch a new key at once both find no row; one makes it, the other waits on the insert for the first one's
    /// commit and then locks the same row. In this order, all inserts before any lock, no two batches can wait for each other. A row that another
    /// instance has removed meanwhile is made again.
    ///
    /// # Errors
    ///
    /// A key that is none, or that is not in normal form: of two spellings of one row neither batch nor policy would know that they are one.
    fn load(
        tx: &mut PgConnection,
        keys: &[String],
        state: &mut BTreeMap<String, Self::Value>,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        async move {
            let Sql { make, lock, .. } = Self::sql();
            let keys = keys.iter().map(|key| parsed(key)).collect::<sqlx::Result<Vec<Self::Key>>>()?;
            let mut rows: Vec<Self> = vec![];
            while rows.len() < keys.len() {
                sqlx::query(make.as_str()).bind(&keys).execute(&mut *tx).await?;
                rows = sqlx::query_as(lock.as_str()).bind(&keys).fetch_all(&mut *tx).await?;
            }
            for row in rows {
                state.insert(row.key().to_string(), row.into_value()?);
            }
            Ok(())
        }
    }

    /// Saves the rows that changed between `before` and `after`, all in one statement, and removes those that are not in `after` any more.
    ///
    /// # Errors
    ///
    /// One that was not locked before it changed, since that is not saved.
    fn save(
        tx: &mut PgConnection,
        before: &BTreeMap<String, Self::Value>,
        after: &BTreeMap<String, Self::Value>,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        async move {
            let rows = changed(before, after).map(|(key, value)| Ok(Self::from_value(parsed(key)?, value)));
            let rows = rows.collect::<sqlx::Result<Vec<Self>>>()?;
            let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| parsed(key));
            let gone = gone.collect::<sqlx::Result<Vec<Self::Key>>>()?;
            let Sql { table, save, remove, .. } = Self::sql();
            if !gone.is_empty() {
                sqlx::query(remove.as_str()).bind(gone).execute(&mut *tx).await?;
            }
            let count = rows.len();
            if count == 0 {
                return Ok(());
            }
            let saved = Self::bind(rows, sqlx::query(save.as_str())).execute(tx).await?.rows_affected();
            if saved != count as u64 {
                let unlocked = format!(
                    "{count} rows of {table} changed and {saved} of them are there: `Policy::rows` has to name each row that an input changes"
                );
                return Err(sqlx::Error::Decode(unlocked.into()));
            }
            Ok(())
        }
    }
}

/// The keys of records are checked and put into normal form when they are decoded; those of commands, and what a policy makes up, are not.
fn parsed<K: FromStr<Err: Into<BoxDynError>> + Display>(key: &str) -> sqlx::Result<K> {
    let parsed: K = key.parse().map_err(|error: K::Err| sqlx::Error::Decode(error.into()))?;
    let normal = parsed.to_string();
    if normal != key {
        return Err(sqlx::Error::Decode(format!("a key is not in normal form, which is {normal}").into()));
    }
    Ok(parsed)
}

/// The error of a store that is asked for a table of [`Policy::TABLES`](quadrille_core::Policy::TABLES) that it does not have.
pub fn unknown_table(table: &str) -> sqlx::Error {
    sqlx::Error::TypeNotFound { type_name: table.to_owned() }
}

/// A column of a table.
pub struct Column {
    name: &'static str,
    array: PgTypeInfo,
    in_table: Option<&'static str>,
}

impl Column {
    /// The column `name`, of the type that `T` has in PostgreSQL.
    pub fn new<T: PgHasArrayType>(name: &'static str) -> Self {
        Self { name, array: T::array_type_info(), in_table: None }
    }

    /// The same with another type in the table: values are cast to and fro.
    #[must_use]
    pub fn stored_as(self, in_table: &'static str) -> Self {
        Self { in_table: Some(in_table), ..self }
    }

    /// The type of an array of its values.
    fn array(&self) -> String {
        self.array.to_string().to_lowercase()
    }
}

/// A table's statements.
#[derive(Debug)]
pub struct Sql {
    table: &'static str,
    make: String,
    lock: String,
    save: String,
    remove: String,
}

impl Sql {
    /// The statements for the rows of `table`. `stamps` are columns that get the time of each save.
    pub fn new(table: &'static str, key: &Column, columns: &[Column], stamps: &[&str]) -> Self {
        let id = key.name;
        let ids = key.array();
        let make = format!("insert into {table} ({id}) select unnest($1::{ids}) on conflict do nothing");

        let read = columns.iter().map(|column| match column.in_table {
            None => column.name.to_owned(),
            Some(_) => format!("{0}::{1} as {0}", column.name, column.array().trim_end_matches("[]")),
        });
        let read = listed([id.to_owned()].into_iter().chain(read));
        let lock = format!("select {read} from {table} where {id} = any($1) order by {id} for update");

        let set = columns.iter().map(|Column { name, in_table, .. }| match in_table {
            None => format!("{name} = new.{name}"),
            Some(in_table) => format!("{name} = new.{name}::{in_table}"),
        });
        let set = listed(set.chain(stamps.iter().map(|stamp| format!("{stamp} = clock_timestamp()"))));
        let all = || [key].into_iter().chain(columns);
        let arrays = listed((1..).zip(all()).map(|(number, column)| format!("${number}::{}", column.array())));
        let names = listed(all().map(|column| column.name.to_owned()));
        // `any` holds the plan to an index scan by key. Without it a plan made while the table was analyzed small reads the whole index,
        // and is kept until the next analysis: once there are 100,000 rows, 180 ms for a batch of 50 instead of 8.
        let save = format!(
            "update {table} set {set} from unnest({arrays}) as new({names}) \
             where {table}.{id} = new.{id} and {table}.{id} = any($1)"
        );
        let remove = format!("delete from {table} where {id} = any($1)");
        Self { table, make, lock, save, remove }
    }
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sqlx::types::Json;
    use uuid::Uuid;

    use super::*;

    table! {
        struct Notice in "notice" stamps changed_at {
            key order_id: Uuid,
            version: i64,
            asked: Option<i32>,
            mails: Json<Vec<String>>,
            waiting: String as "uuid[]",
        }
    }

    table! {
        struct Price in "price" {
            key sku: String,
            cents: i64,
        }
    }

    #[test]
    fn each_statement_is_for_a_whole_batch() {
        let Sql { make, lock, save, remove, .. } = Notice::sql();
        assert_eq!(remove, "delete from notice where order_id = any($1)");
        assert_eq!(make, "insert into notice (order_id) select unnest($1::uuid[]) on conflict do nothing");
        assert_eq!(
            lock,
            "select order_id, version, asked, mails, waiting::text as waiting from notice \
             where order_id = any($1) order by order_id for update"
        );
        assert_eq!(
            save,
            "update notice set version = new.version, asked = new.asked, mails = new.mails, \
             waiting = new.waiting::uuid[], changed_at = clock_timestamp() \
             from unnest($1::uuid[], $2::int8[], $3::int4[], $4::jsonb[], $5::text[]) \
             as new(order_id, version, asked, mails, waiting) \
             where notice.order_id = new.order_id and notice.order_id = any($1)"
        );
    }

    #[test]
    fn a_key_is_in_normal_form() {
        const KEY: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert_eq!(parsed::<Uuid>(KEY).expect("it is").to_string(), KEY);
        for spelling in [KEY.to_uppercase(), format!("{{{KEY}}}"), KEY.replace('-', ""), format!("urn:uuid:{KEY}")] {
            let refused = parsed::<Uuid>(&spelling).expect_err("it is not").to_string();
            assert!(refused.ends_with(&format!("not in normal form, which is {KEY}")), "{refused}");
        }
        assert_eq!(parsed::<String>("any text").expect("of texts all are"), "any text");
    }

    #[test]
    fn a_table_without_a_stamp_has_none() {
        assert_eq!(
            Price::sql().save,
            "update price set cents = new.cents from unnest($1::text[], $2::int8[]) as new(sku, cents) \
             where price.sku = new.sku and price.sku = any($1)"
        );
    }
}
