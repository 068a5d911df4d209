//! The generations of a read model, as its database has them.

use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection};

/// A generation of a read model's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Generation {
    /// Its number, counted from 1.
    pub number: i32,
    /// Whether it is the one that serves.
    pub serves: bool,
}

/// How far a generation has come.
#[derive(Clone, Debug)]
pub struct Positions {
    /// Which one.
    pub generation: Generation,
    /// Topic, without prefix, and partition, with the next offset.
    next: Vec<(String, i32, i64)>,
}

impl Positions {
    /// The next offset of a partition that it will take, or `None` where it has none.
    pub fn next(&self, topic: &str, partition: i32) -> Option<i64> {
        self.next.iter().find(|(of, number, _)| of == topic && *number == partition).map(|(.., next)| *next)
    }
}

/// The positions of each generation that has begun and was not dropped, by number.
pub async fn positions(connection: &mut PgConnection) -> sqlx::Result<Vec<Positions>> {
    // The one that serves is the one that began to last.
    let generations: Vec<Generation> = sqlx::query_as(
        "select number, number is not distinct from (
             select number from generation where served_at is not null and dropped_at is null
             order by served_at desc, number desc limit 1) as serves
         from generation where begun_at is not null and dropped_at is null order by number",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut all = vec![];
    for generation in generations {
        let schema = match generation.number {
            1 => "public".to_owned(),
            number => format!("g{number}"),
        };
        let stored = AssertSqlSafe(format!("select topic, partition, \"offset\" from {schema}.position"));
        let next: Vec<(String, i32, i64)> = sqlx::query_as(stored).fetch_all(&mut *connection).await?;
        all.push(Positions { generation, next });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_that_of_its_topic_and_partition() {
        let next = vec![("order.events".to_owned(), 0, 7), ("order.events".to_owned(), 1, 9)];
        let positions = Positions { generation: Generation { number: 2, serves: true }, next };
        let of = |topic, partition| positions.next(topic, partition);
        assert_eq!((of("order.events", 1), of("order.events", 2), of("stock.events", 1)), (Some(9), None, None));
    }
}
