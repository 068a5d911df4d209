//! Positions: how far a service that only listens has taken each partition, kept in the transaction of the rows that came of it.
//!
//! They say once what an inbox says per record. Whoever takes records of a partition locks its position: a record below it was taken before,
//! by this instance or another. Reading starts from them; the group's offsets are a hint for whoever looks at its lag.
//!
//! Each generation has a table of them in its own schema, which its connections search first: no statement here names one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use chrono::{DateTime, Utc};
use quadrille_core::TopicType;
use sqlx::{PgConnection, PgPool};

use crate::{consumer::Partition, database::Database, record::RawRecord};

/// Where reading has come to in a partition without a record that is handled: at its end, or behind records of no concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub partition: Partition,
    /// The next record's offset.
    pub next: i64,
    /// When this was the end of the partition, if it was.
    pub at_end: Option<Instant>,
}

/// A partition that ends before its position: its topic was made anew, or has lost records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BeyondEnd {
    pub partition: Partition,
    pub end: i64,
    pub position: i64,
}

/// The partitions that were seen to end before their positions, each with how often in a row.
///
/// An end may have been seen before another instance, or a record that came just then, moved the position on: only what is seen twice in a row
/// counts.
#[derive(Default)]
pub(crate) struct BeyondEnds(BTreeMap<Partition, (u32, BeyondEnd)>);

impl BeyondEnds {
    /// Notes of each partition whose end was reached whether that lies before its position, and forgets those that are not `owned` any more.
    /// Returns one that counts, if there is any.
    pub fn note(
        &mut self,
        ends: Vec<(Partition, Option<BeyondEnd>)>,
        owned: impl Fn(Partition) -> bool,
    ) -> Option<BeyondEnd> {
        for (partition, beyond) in ends {
            match beyond {
                Some(beyond) => {
                    let (times, last) = self.0.entry(partition).or_insert((0, beyond));
                    (*times, *last) = (*times + 1, beyond);
                }
                None => drop(self.0.remove(&partition)),
            }
        }
        self.0.retain(|partition, _| owned(*partition));
        self.0.values().find(|(times, _)| *times > 1).map(|(_, beyond)| *beyond)
    }
}

/// The positions of a batch's partitions, locked.
pub(crate) struct Positions {
    /// Each as it is in the table, and as this transaction moves it.
    next: BTreeMap<Partition, (i64, i64)>,
    /// What this transaction takes.
    taken: BTreeSet<(Partition, i64)>,
}

impl Positions {
    /// Locks the positions of `partitions`, in their order; makes those that are not there.
    pub async fn lock(tx: &mut PgConnection, partitions: &[Partition]) -> sqlx::Result<Self> {
        let (topics, numbers): (Vec<&str>, Vec<i32>) = partitions.iter().copied().unzip();
        sqlx::query(
            "insert into position (topic, partition) select * from unnest($1::text[], $2::int[]) on conflict do nothing",
        )
        .bind(&topics)
        .bind(&numbers)
        .execute(&mut *tx)
        .await?;
        let found: Vec<(String, i32, i64)> = sqlx::query_as(
            "select topic, partition, \"offset\" from position
             where (topic, partition) in (select * from unnest($1::text[], $2::int[])) order by topic, partition for update",
        )
        .bind(&topics)
        .bind(&numbers)
        .fetch_all(tx)
        .await?;
        let next = found.into_iter().filter_map(|(topic, number, next)| {
            let partition = partitions.iter().find(|(name, n)| *name == topic && *n == number)?;
            Some((*partition, (next, next)))
        });
        Ok(Self { next: next.collect(), taken: BTreeSet::new() })
    }

    /// Takes a record: `false` where it was taken before. The records of a batch come in any order, and one may come twice.
    pub fn take(&mut self, record: &RawRecord) -> bool {
        let partition = record.topic_partition();
        match self.next.get_mut(&partition) {
            Some((was, next)) if record.offset >= *was && self.taken.insert((partition, record.offset)) => {
                *next = (*next).max(record.offset + 1);
                true
            }
            _ => false,
        }
    }

    /// Moves the positions to where records were taken, and to what was reached behind them.
    ///
    /// Returns of each partition whose end was reached whether that lies before its position.
    pub async fn advance(
        self,
        tx: &mut PgConnection,
        reached: &[Reached],
    ) -> sqlx::Result<Vec<(Partition, Option<BeyondEnd>)>> {
        let mut ends = vec![];
        let mut moved: BTreeMap<Partition, (i64, Option<i64>)> = BTreeMap::new();
        for (partition, (was, next)) in &self.next {
            if next > was {
                moved.insert(*partition, (*next, None));
            }
        }
        for Reached { partition, next, at_end } in reached {
            let Some((_, position)) = self.next.get(partition) else { continue };
            let is_beyond = next < position;
            if at_end.is_some() {
                let beyond = BeyondEnd { partition: *partition, end: *next, position: *position };
                ends.push((*partition, is_beyond.then_some(beyond)));
            }
            if is_beyond {
                // Or it was reached before another instance went on.
                continue;
            }
            let age_ms = at_end.map(|at| i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX));
            moved.insert(*partition, (*next, age_ms));
        }
        if moved.is_empty() {
            return Ok(ends);
        }
        let (partitions, to): (Vec<Partition>, Vec<(i64, Option<i64>)>) = moved.into_iter().unzip();
        let (topics, numbers): (Vec<&str>, Vec<i32>) = partitions.into_iter().unzip();
        let (next, ages): (Vec<i64>, Vec<Option<i64>>) = to.into_iter().unzip();
        sqlx::query(
            "update position set \"offset\" = new.next,
                 as_of = greatest(position.as_of, clock_timestamp() - make_interval(secs => new.age_ms / 1000.0))
             from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) as new(topic, partition, next, age_ms)
             where position.topic = new.topic and position.partition = new.partition",
        )
        .bind(topics)
        .bind(numbers)
        .bind(next)
        .bind(ages)
        .execute(tx)
        .await?;
        Ok(ends)
    }
}

/// All positions, by topic and partition.
pub(crate) async fn stored(pool: &Database) -> sqlx::Result<BTreeMap<(String, i32), i64>> {
    let stored: Vec<(String, i32, i64)> =
        sqlx::query_as("select topic, partition, \"offset\" from position").fetch_all(pool).await?;
    Ok(stored.into_iter().map(|(topic, partition, next)| ((topic, partition), next)).collect())
}

/// As of when all partitions of `topics` are taken: none while one of them has never been read to its end.
pub(crate) async fn as_of(pool: &PgPool, topics: &[&TopicType]) -> sqlx::Result<Option<DateTime<Utc>>> {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let partitions: i64 = topics.iter().map(|topic| i64::from(topic.partitions)).sum();
    let (count, oldest): (i64, Option<DateTime<Utc>>) =
        sqlx::query_as("select count(as_of), min(as_of) from position where topic = any($1)")
            .bind(names)
            .fetch_one(pool)
            .await?;
    Ok(oldest.filter(|_| count == partitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Partition = ("stock.events", 1);
    const TWO: Partition = ("stock.events", 2);

    /// Cases: an end that is beyond its position once, since another instance went on; twice; a partition that passes on; one that is fixed.
    #[test]
    fn an_end_before_its_position_counts_once_it_is_seen_twice_in_a_row() {
        let beyond = |partition| BeyondEnd { partition, end: 3, position: 5 };
        let mut ends = BeyondEnds::default();
        let ours = |_: Partition| true;
        assert_eq!(ends.note(vec![(ONE, Some(beyond(ONE)))], ours), None);
        assert_eq!(ends.note(vec![(ONE, None)], ours), None);
        assert_eq!(ends.note(vec![(ONE, Some(beyond(ONE))), (TWO, Some(beyond(TWO)))], ours), None);
        assert_eq!(ends.note(vec![(TWO, Some(beyond(TWO)))], ours), Some(beyond(TWO)));
        // What is noted of others changes nothing.
        assert_eq!(ends.note(vec![(ONE, None)], ours), Some(beyond(TWO)));
        assert_eq!(ends.note(vec![(ONE, None)], |partition| partition != TWO), None);
        assert_eq!(ends.note(vec![(TWO, Some(beyond(TWO)))], ours), None);
        assert_eq!(ends.note(vec![(TWO, Some(beyond(TWO)))], ours), Some(beyond(TWO)));
        assert_eq!(ends.note(vec![(TWO, None)], ours), None);
    }
}
