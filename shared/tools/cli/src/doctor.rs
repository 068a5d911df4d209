//! `quadrille doctor`: what is wrong with a set-up, and how to fix it.

use std::{collections::BTreeSet, process::Command};

use quadrille_program::hide_secrets;
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    Settings,
    catalogue::Declared,
    databases,
    output::{self, Paint},
    registry::LEVEL,
    schemas,
    status::{self, Instance},
    topics::{self, Plan},
};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Look {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where nothing is to be done.
    pub fix: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Well,
    /// Something works less well, or not yet.
    Warning,
    /// Something does not work.
    Wrong,
}

impl Look {
    fn well(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Well, found: found.into(), fix: String::new() }
    }

    fn wrong(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Wrong, found: found.into(), fix: fix.into() }
    }

    fn warning(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Warning, found: found.into(), fix: fix.into() }
    }
}

/// Looks at everything, tells, and says whether nothing is wrong.
pub async fn run(settings: &Settings, json: bool) -> anyhow::Result<bool> {
    let looks = examine(settings).await;
    let wrong = looks.iter().filter(|look| look.verdict == Verdict::Wrong).count();
    if json {
        output::json(&looks)?;
        return Ok(wrong == 0);
    }
    let paint = Paint::detect();
    for look in &looks {
        let mark = match look.verdict {
            Verdict::Well => paint.good("ok     "),
            Verdict::Warning => "warning".to_owned(),
            Verdict::Wrong => paint.bad("WRONG  "),
        };
        output::line(&format!("{mark} {:<16} {}", look.what, look.found))?;
        if !look.fix.is_empty() {
            output::line(&format!("{:25}fix: {}", "", look.fix))?;
        }
    }
    let warnings = looks.iter().filter(|look| look.verdict == Verdict::Warning).count();
    let warnings = output::counted(warnings, "warning");
    output::line(&format!("doctor: {} looked at, {warnings}, {wrong} wrong.", looks.len()))?;
    Ok(wrong == 0)
}

/// Looks at everything. What cannot be looked at, since something below it is wrong, is left out.
pub async fn examine(settings: &Settings) -> Vec<Look> {
    let mut looks = vec![kcat()];
    let declared = match settings.catalogue.declared(None) {
        Ok(declared) => {
            let found = format!(
                "{} topics, {} record types ({})",
                declared.topics.len(),
                declared.subjects.len(),
                declared.source
            );
            looks.push(Look::well("schemas", found));
            Some(declared)
        }
        Err(error) => {
            looks.push(Look::wrong("schemas", error.to_string(), "fix what is named above"));
            None
        }
    };
    if let Some(declared) = &declared {
        let kafka = look_at_topics(settings, declared).await;
        let is_there = kafka.iter().all(|look| look.what != "kafka" || look.verdict == Verdict::Well);
        looks.extend(kafka);
        let registry = look_at_subjects(settings, declared).await;
        let answers = registry.iter().all(|look| look.what != "registry" || look.verdict == Verdict::Well);
        looks.extend(registry);
        if is_there && answers {
            looks.extend(look_at_instances(settings));
        }
    }
    looks.extend(look_at_databases(settings).await);
    looks
}

fn kcat() -> Look {
    match Command::new("kcat").arg("-V").output() {
        Ok(said) => {
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            let version = text.lines().find(|line| line.starts_with("Version")).unwrap_or("some version");
            Look::well("kcat", version.split(" (").next().unwrap_or(version))
        }
        Err(_) => Look::warning(
            "kcat",
            "not installed",
            "apt-get install kcat; until then `quadrille produce` and `quadrille watch` do the same",
        ),
    }
}

async fn look_at_topics(settings: &Settings, declared: &Declared) -> Vec<Look> {
    let statuses = match topics::statuses(settings, &declared.topics).await {
        Ok(statuses) => statuses,
        Err(error) => {
            let fix = "`make up`, or name another broker by QUADRILLE__KAFKA__BROKERS";
            return vec![Look::wrong("kafka", error.to_string(), fix)];
        }
    };
    let mut looks = vec![Look::well("kafka", &settings.kafka.brokers)];
    let named = |wanted: fn(&Plan) -> bool| -> Vec<&str> {
        statuses.iter().filter(|status| wanted(&status.plan)).map(|status| status.topic.as_str()).collect()
    };
    let missing = named(|plan| *plan == Plan::Missing);
    let differing = named(|plan| matches!(plan, Plan::Differs { .. }));
    let others = named(|plan| matches!(plan, Plan::OtherPartitions { .. }));
    if !missing.is_empty() {
        looks.push(Look::wrong("topics", format!("missing: {}", missing.join(", ")), "`quadrille topics apply`"));
    }
    if !differing.is_empty() {
        let found = format!("other settings than declared: {}", differing.join(", "));
        looks.push(Look::warning("topics", found, "`quadrille topics apply`"));
    }
    if !others.is_empty() {
        let found = format!("other partition counts than declared: {}", others.join(", "));
        looks.push(Look::wrong("topics", found, "`quadrille topics apply` says what can be done"));
    }
    if looks.len() == 1 {
        looks.push(Look::well("topics", format!("{}, all as declared", statuses.len())));
    }
    looks
}

async fn look_at_subjects(settings: &Settings, declared: &Declared) -> Vec<Look> {
    let found = match settings.registry() {
        Ok(registry) => schemas::find(&registry, &declared.subjects).await,
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let fix = "`make up`, or name another registry by QUADRILLE__REGISTRY__URL";
            return vec![Look::wrong("registry", error.to_string(), fix)];
        }
    };
    let mut looks = vec![Look::well("registry", hide_secrets(&settings.registry.url))];
    let pairs = || declared.subjects.iter().zip(&found);
    let missing: Vec<String> = pairs()
        .filter(|(subject, found)| found.version_of(&subject.record.text).is_none())
        .map(|(subject, _)| subject.name())
        .collect();
    let levels: BTreeSet<&str> =
        found.iter().map(|found| found.level.as_str()).filter(|level| !level.is_empty() && *level != LEVEL).collect();
    if !missing.is_empty() {
        let found = format!("{} subjects without our schema, the first: {}", missing.len(), missing[0]);
        looks.push(Look::wrong("subjects", found, "`quadrille schemas apply`"));
    }
    if !levels.is_empty() {
        let levels = levels.into_iter().collect::<Vec<_>>().join(", ");
        let found = format!("compatibility {levels} where {LEVEL} is due");
        looks.push(Look::warning("subjects", found, "`quadrille schemas apply`"));
    }
    if looks.len() == 1 {
        looks.push(Look::well("subjects", format!("{}, all registered as they are here, {LEVEL}", found.len())));
    }
    looks
}

fn look_at_instances(settings: &Settings) -> Vec<Look> {
    let instances = match tokio::task::block_in_place(|| status::instances(settings)) {
        Ok(instances) => instances,
        // The topics were looked at already.
        Err(_) => return vec![],
    };
    judged(&instances, &settings.catalogue.service_names().collect::<Vec<_>>())
}

/// What the instances say, and which services have none.
fn judged(instances: &[Instance], services: &[&str]) -> Vec<Look> {
    let ours = env!("CARGO_PKG_VERSION");
    let mut looks = Vec::new();
    let speaks = |service: &str| instances.iter().any(|instance| instance.service == service && !instance.is_silent());
    let missing: Vec<&str> = services.iter().copied().filter(|service| !speaks(service)).collect();
    if !missing.is_empty() {
        let found = format!("no instance of {} says that it runs", missing.join(", "));
        looks.push(Look::wrong("services", found, "`make services`, or look at the log of the one that ended"));
    }
    for instance in instances {
        let name = output::printable(&instance.instance);
        // A new one of the same service that speaks has taken its place.
        let is_replaced = |other: &Instance| {
            other.service == instance.service && !other.is_silent() && other.started_at > instance.started_at
        };
        if instance.is_silent() && instances.iter().any(is_replaced) {
            continue;
        }
        if instance.is_silent() {
            let found = format!("{name} has been silent since {}", instance.sent_at.format("%F %T"));
            looks.push(Look::warning("services", found, "look at its log, or start it anew: `make services`"));
        } else if !instance.detail.is_empty() {
            let found = format!("{name} is {}: {}", instance.status, output::printable(&instance.detail));
            looks.push(Look::wrong("services", found, "fix what it names; it goes on by itself"));
        }
        if instance.version != ours {
            let found = format!("{name} is version {}, this program {ours}", output::printable(&instance.version));
            looks.push(Look::warning("versions", found, "build and start both from one checkout: `make services`"));
        }
    }
    if looks.is_empty() {
        looks.push(Look::well(
            "services",
            format!("{}, all ready, all version {ours}", output::counted(instances.len(), "instance")),
        ));
    }
    looks
}

async fn look_at_databases(settings: &Settings) -> Vec<Look> {
    let mut looks = Vec::new();
    let mut sound = 0;
    for service in settings.catalogue.databases() {
        let name = settings.database(service);
        let mut connection = match databases::try_connect(settings, service).await {
            Ok(connection) => connection,
            Err(error) => {
                let fix = "`make up`, or name the server by QUADRILLE__DATABASE__BASE_URL and the databases by QUADRILLE__DATABASE__PREFIX";
                looks.push(Look::wrong("databases", format!("{name} cannot be reached: {error}"), fix));
                continue;
            }
        };
        let tables = sqlx::query_scalar::<_, i64>(
            "select count(*) from information_schema.tables where table_schema = 'public' and table_name = any($1)",
        )
        .bind(&TABLES[..])
        .fetch_one(&mut connection)
        .await;
        let skew = sqlx::query_scalar::<_, i64>("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
            .fetch_one(&mut connection)
            .await;
        match tables {
            Ok(count) if usize::try_from(count) == Ok(TABLES.len()) => sound += 1,
            Ok(_) => {
                let found = format!("{name} has not all of the runtime's tables");
                looks.push(Look::wrong(
                    "databases",
                    found,
                    format!("`quadrille-{service} migrate` (`make up` does it)"),
                ));
            }
            Err(error) => looks.push(Look::wrong("databases", format!("{name}: {error}"), "see PostgreSQL's log")),
        }
        let is_projection = settings.catalogue.is_projection(service);
        looks.extend(look_at_published(service, is_projection, &mut connection).await);
        looks.extend(look_at_what_waits(service, &mut connection).await);
        let skew = skew.map_or(0, |there| (there - chrono::Utc::now().timestamp_millis()).abs());
        if skew > 2_000 {
            let found =
                format!("{name}'s clock and this machine's are {} apart", output::step(skew).trim_start_matches('+'));
            looks.push(Look::warning("clocks", found, "set them by NTP: deadlines go by the database's"));
        }
    }
    if sound > 0 {
        looks.push(Look::well("databases", format!("{sound} with the runtime's tables")));
    }
    looks
}

/// Whether the relay has found that the database is older than its topics, or that a topic is not the one that it was.
async fn look_at_published(service: &str, is_projection: bool, connection: &mut PgConnection) -> Option<Look> {
    let found: Option<(String, i64)> = sqlx::query_as(
        "select disagrees, count(*) over () from published where disagrees is not null order by topic, partition limit 1",
    )
    .fetch_optional(connection)
    .await
    // A table that is not there was named already.
    .unwrap_or_default();
    let (first, partitions) = found?;
    let found = format!("{service} publishes nothing ({partitions} partitions): {}", output::printable(&first));
    // A read model goes on from its positions, which the backup has.
    let rewind = match is_projection {
        true => String::new(),
        false => format!(" `quadrille group rewind {service} --to` a time before that backup,"),
    };
    let fix = format!(
        "stop {service}, restore its newest backup,{rewind} and start it; \
         if that cannot fix it: `quadrille-{service} accept-topics --help` (docs/operating.md, \"A database older than its topic\")"
    );
    Some(Look::wrong("published", found, fix))
}

/// Whether anything waits for a person.
async fn look_at_what_waits(service: &str, connection: &mut PgConnection) -> Vec<Look> {
    let mut looks = Vec::new();
    for (what, count, fix) in [
        ("dead letters", "select count(*) from dead_letter where closed_at is null", "dead-letters list"),
        ("effects", "select count(*) from effect where parked_at is not null", "effects list --parked"),
    ] {
        // A table that is not there was named already.
        let waiting: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await.unwrap_or_default();
        if waiting > 0 {
            let fix = format!("`quadrille {fix} --service {service}` shows them and what can be done");
            looks.push(Look::warning(what, format!("{service} has {waiting} that wait for a person"), fix));
        }
    }
    looks
}

/// What `migrate` makes beside a service's own tables.
const TABLES: [&str; 7] = ["inbox", "outbox", "effect", "timer", "dead_letter", "lease", "published"];

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    #[test]
    fn a_service_without_an_instance_that_speaks_is_wrong() {
        let instance = |service: &str, seconds: i64| Instance {
            instance: format!("{service}-1"),
            service: service.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            sent_at: Utc::now() - chrono::Duration::seconds(seconds),
            ..Instance::default()
        };
        let told = |instances: &[Instance]| -> Vec<(Verdict, String)> {
            judged(instances, &["user", "order"]).into_iter().map(|look| (look.verdict, look.found)).collect()
        };
        let both = told(&[instance("user", 1), instance("order", 1)]);
        assert_eq!((both.len(), both[0].0), (1, Verdict::Well), "{both:?}");
        let one = told(&[instance("order", 1)]);
        assert_eq!(one, [(Verdict::Wrong, "no instance of user says that it runs".into())]);
        let none = told(&[]);
        assert_eq!(none, [(Verdict::Wrong, "no instance of user, order says that it runs".into())]);
        // A killed one stays for a while, and does not speak.
        let silent = told(&[instance("user", 60), instance("order", 1)]);
        assert_eq!((silent.len(), silent[0].0, silent[1].0), (2, Verdict::Wrong, Verdict::Warning), "{silent:?}");
        // Another has taken its place.
        let newer = Instance { started_at: Utc::now(), ..instance("user", 1) };
        let replaced = told(&[instance("user", 60), newer, instance("order", 1)]);
        assert_eq!((replaced.len(), replaced[0].0), (1, Verdict::Well), "{replaced:?}");
    }
}
