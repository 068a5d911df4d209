//! `quadrille status`: instances, how far groups have come, what is open and what waits.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{
    Catalogue, Settings,
    codec::{Decoded, Decoder},
    databases,
    generations::{self, Generation, Positions},
    http,
    kafka::{self, Partition, Reader, Start},
    output::{self, Paint, Table},
};

/// An instance that has not said so for this long is taken for gone: six heartbeats.
const SILENT: i64 = 30_000;

/// And for this long, for forgotten: it was killed, and nobody took its record back.
const FORGOTTEN: i64 = 600_000;

/// Everything at a glance.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Running instances.
    pub instances: Vec<Instance>,
    /// How far each service has come in each topic that it hears.
    pub groups: Vec<Group>,
    /// What each service's database holds.
    pub databases: Vec<Database>,
    /// Sagas by their state, where the catalogue says who counts them.
    #[serde(rename = "orders")]
    pub sagas: BTreeMap<String, i64>,
    /// Those of them that have not ended.
    #[serde(skip)]
    pub open_sagas: i64,
}

/// A running instance, as its heartbeat and its health say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub instance: String,
    /// Its service.
    pub service: String,
    /// Its build's version.
    pub version: String,
    /// Where its health is.
    pub http: String,
    /// As its last heartbeat said.
    pub status: String,
    /// What is not well.
    #[serde(default)]
    pub detail: String,
    /// The topics that it hears.
    #[serde(default)]
    pub hears: Vec<String>,
    /// Since when it runs.
    pub started_at: DateTime<Utc>,
    /// When it last said so.
    pub sent_at: DateTime<Utc>,
    /// Where others reach it; none where it does not know.
    #[serde(default)]
    pub advertised: Option<String>,
    /// The partitions that are its own, by topic.
    #[serde(default)]
    pub assigned: Vec<Assigned>,
    /// Records of them that are still to be read, where it knows.
    #[serde(default)]
    pub lag: Option<i64>,
    /// Records that its service has not published yet, where its database told.
    #[serde(default)]
    pub outbox_rows: Option<i64>,
    /// For how many seconds the oldest of them has waited.
    #[serde(default)]
    pub outbox_age_seconds: Option<i64>,
    /// When the outside last told it what became of an effect.
    #[serde(default)]
    pub outside_answered_at: Option<DateTime<Utc>>,
    /// What its health page says now.
    #[serde(default)]
    pub health: String,
}

/// The partitions of a topic that are an instance's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The topic, without prefix.
    pub topic: String,
    /// Their numbers.
    pub partitions: Vec<i32>,
    /// Records of them that are still to be read, where that is known.
    pub lag: Option<i64>,
}

impl Instance {
    /// Where it is asked: as it has others told, else where it listens.
    fn address(&self) -> &str {
        self.advertised.as_deref().unwrap_or(&self.http)
    }

    /// How long ago it last said that it is there.
    fn silence_ms(&self) -> i64 {
        (Utc::now() - self.sent_at).num_milliseconds()
    }

    /// Whether it has not said so for longer than a running instance would.
    pub fn is_silent(&self) -> bool {
        self.silence_ms() > SILENT
    }
}

/// How far a service has come in a topic; a read model each of its generations.
#[derive(Debug, Serialize)]
pub struct Group {
    /// The service.
    pub service: String,
    /// Which generation, of a read model that has others than the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The topic, without prefix.
    pub topic: String,
    /// Records not read yet, by partition.
    pub lag: Vec<i64>,
    /// Their sum.
    pub total: i64,
}

impl Group {
    /// The group's name, without a world's prefix, and whether its generation serves.
    fn describe(&self) -> String {
        let name = quadrille_core::group(&self.service, self.generation.map_or(1, |generation| generation.number));
        let serves = self.generation.is_some_and(|generation| generation.serves);
        if serves { format!("{name} (serves)") } else { name }
    }
}

/// What a service's database holds for the runtime.
#[derive(Debug, Default, Serialize)]
pub struct Database {
    /// The service.
    pub service: String,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Facts not published yet.
    pub outbox: i64,
    /// The oldest one's age in milliseconds.
    pub outbox_age_ms: Option<i64>,
    /// Inputs remembered.
    pub inbox: i64,
    /// Effects under way.
    pub effects: i64,
    /// Effects that wait for a person.
    pub parked: i64,
    /// Timers set.
    pub timers: i64,
    /// Dead letters that nobody has seen to.
    pub dead_letters: i64,
    /// How far each generation of a read model has come: [`Status::groups`] shows it.
    #[serde(skip)]
    pub generations: Vec<Positions>,
}

/// Asks for everything.
pub async fn ask(settings: &Settings) -> anyhow::Result<Status> {
    let mut instances = tokio::task::block_in_place(|| instances(settings))?;
    let mut databases = Vec::new();
    for service in settings.catalogue.databases() {
        databases.push(database(settings, service).await);
    }
    let groups = tokio::task::block_in_place(|| groups(settings, &instances, &databases))?;
    let client = http::client()?;
    let healths = join_all(instances.iter().map(|instance| health(&client, instance.address()))).await;
    for (instance, health) in instances.iter_mut().zip(healths) {
        instance.health = health;
    }
    // A database that cannot be read is told among the others.
    let sagas = sagas(settings).await.unwrap_or_default();
    let has_ended = |state: &str| settings.catalogue.sagas.is_some_and(|sagas| sagas.ended.contains(&state));
    let open_sagas = sagas.iter().filter(|(state, _)| !has_ended(state)).map(|(_, count)| count).sum();
    Ok(Status { instances, groups, databases, sagas, open_sagas })
}

/// How many sagas are in each state.
async fn sagas(settings: &Settings) -> sqlx::Result<BTreeMap<String, i64>> {
    let Some(sagas) = settings.catalogue.sagas else { return Ok(BTreeMap::new()) };
    let mut connection = databases::try_connect(settings, sagas.service).await?;
    let rows: Vec<(String, i64)> = sqlx::query_as(sagas.states).fetch_all(&mut connection).await?;
    Ok(rows.into_iter().collect())
}

/// The last heartbeat of each instance that has not left.
pub fn instances(settings: &Settings) -> anyhow::Result<Vec<Instance>> {
    let (reader, decoder) = (Reader::connect(&settings.kafka)?, Decoder::connect(settings)?);
    let mut instances: BTreeMap<String, Instance> = BTreeMap::new();
    reader.read_to_end("platform.instances", Start::Beginning, |record| {
        match decoder.decode(Some("platform.instances"), record.value.as_deref())? {
            Decoded::Record { json, .. } => {
                let instance = serde_json::from_str(&json).unwrap_or_default();
                instances.insert(record.key_text(), instance);
            }
            Decoded::Null => {
                instances.remove(&record.key_text());
            }
            Decoded::Dynamic { .. } | Decoded::Bad { .. } => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    output::unreadable(&reader.unreadable());
    Ok(instances.into_values().filter(|instance| instance.silence_ms() < FORGOTTEN).collect())
}

/// How far each service has come: in the topics that its instances say they hear, and in those of which its group holds offsets. Which topics a
/// generation of several hears is told by its positions, as instances do not say whose they are.
fn groups(settings: &Settings, instances: &[Instance], databases: &[Database]) -> anyhow::Result<Vec<Group>> {
    let names: Vec<&str> = settings.catalogue.topic_names();
    let partitions = Reader::connect(&settings.kafka)?.partitions(&names)?;
    let mut groups = Vec::new();
    for service in settings.catalogue.service_names() {
        let of_service = || instances.iter().filter(|instance| instance.service == service);
        let hears = |topic: &str| {
            of_service().flat_map(|instance| &instance.hears).any(|heard| is_of(&settings.catalogue, topic, heard))
        };
        let database = databases.iter().find(|database| database.service == service);
        let read: Vec<(Option<Generation>, Vec<Option<i64>>)> = match database.map(|database| &*database.generations) {
            None | Some([] | [Positions { generation: Generation { number: 1, .. }, .. }]) => {
                vec![(None, kafka::committed(&settings.kafka, &settings.group(service), &partitions)?)]
            }
            Some(several) => {
                let next = |of: &Positions| -> Vec<Option<i64>> {
                    partitions.iter().map(|at| of.next(&at.topic, at.number)).collect()
                };
                several.iter().map(|positions| (Some(positions.generation), next(positions))).collect()
            }
        };
        for (generation, next) in &read {
            for topic in &names {
                let of_topic = || partitions.iter().zip(next).filter(|(partition, _)| &*partition.topic == *topic);
                if generation.is_none() && hears(topic) || of_topic().any(|(_, offset)| offset.is_some()) {
                    let lag: Vec<i64> = of_topic().map(|(partition, offset)| lag(partition, *offset)).collect();
                    let (service, topic, total) = (service.to_owned(), (*topic).to_owned(), lag.iter().sum());
                    groups.push(Group { service, generation: *generation, topic, lag, total });
                }
            }
        }
    }
    Ok(groups)
}

/// Whether what an instance says to hear is this topic or a record type of it.
fn is_of(catalogue: &Catalogue, topic: &str, heard: &str) -> bool {
    heard == topic || catalogue.records.iter().any(|info| info.record.topic.name == topic && info.record.name == heard)
}

fn lag(partition: &Partition, committed: Option<i64>) -> i64 {
    partition.high - committed.unwrap_or(partition.low).clamp(partition.low, partition.high)
}

async fn health(client: &reqwest::Client, http: &str) -> String {
    #[derive(Deserialize)]
    struct Health {
        status: String,
    }
    let root = if http.contains("://") { http.to_owned() } else { format!("http://{http}") };
    let request = client.get(format!("{root}/health")).timeout(Duration::from_secs(2));
    match request.send().await {
        Err(_) => "does not answer".into(),
        Ok(response) => match response.json::<Health>().await {
            Ok(health) => health.status,
            Err(_) => "answers something else".into(),
        },
    }
}

async fn database(settings: &Settings, service: &str) -> Database {
    let named = Database { service: service.to_owned(), ..Database::default() };
    let asked = async {
        let mut connection = databases::try_connect(settings, service).await?;
        counts(&mut connection, service, settings.catalogue.is_projection(service)).await
    };
    let asked: sqlx::Result<Database> = asked.await;
    asked.unwrap_or_else(|error| Database { error: Some(error.to_string()), ..named })
}

async fn counts(connection: &mut PgConnection, service: &str, is_projection: bool) -> sqlx::Result<Database> {
    let (outbox, outbox_age_ms) = sqlx::query_as(
        "select count(*), (extract(epoch from clock_timestamp() - min(time)) * 1000)::bigint from outbox",
    )
    .fetch_one(&mut *connection)
    .await?;
    let inbox = sqlx::query_scalar("select count(*) from inbox").fetch_one(&mut *connection).await?;
    let (effects, parked) =
        sqlx::query_as("select count(*), count(parked_at) from effect").fetch_one(&mut *connection).await?;
    let timers = sqlx::query_scalar("select count(*) from timer").fetch_one(&mut *connection).await?;
    let dead_letters = sqlx::query_scalar("select count(*) from dead_letter where closed_at is null")
        .fetch_one(&mut *connection)
        .await?;
    let generations = match is_projection {
        true => generations::positions(connection).await?,
        false => vec![],
    };
    Ok(Database {
        service: service.to_owned(),
        error: None,
        outbox,
        outbox_age_ms,
        inbox,
        effects,
        parked,
        timers,
        dead_letters,
        generations,
    })
}

/// Shows it.
pub async fn run(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let status = ask(settings).await?;
    if json {
        return output::json(&status);
    }
    let paint = Paint::detect();
    let now = Utc::now();
    if status.instances.is_empty() {
        output::line("No instance of any service says that it runs: `make services` starts them.")?;
    } else {
        let mut table = Table::new([
            "instance",
            "version",
            "health",
            "runs for",
            "last beat",
            "partitions",
            "lag",
            "outside answered",
            "what is not well",
        ]);
        let ago =
            |at: DateTime<Utc>| format!("{} ago", output::step((now - at).num_milliseconds()).trim_start_matches('+'));
        for instance in &status.instances {
            let health = match instance.health.as_str() {
                _ if instance.is_silent() => paint.bad("silent"),
                "ok" => paint.good("ok"),
                other => paint.bad(other),
            };
            let ran = output::step((now - instance.started_at).num_milliseconds());
            table.row([
                instance.instance.clone(),
                instance.version.clone(),
                health,
                ran.trim_start_matches('+').to_owned(),
                ago(instance.sent_at),
                instance.assigned.iter().map(|topic| topic.partitions.len()).sum::<usize>().to_string(),
                instance.lag.map(|lag| lag.to_string()).unwrap_or_default(),
                instance.outside_answered_at.map(ago).unwrap_or_default(),
                output::printable(&instance.detail),
            ]);
        }
        table.print()?;
    }
    output::line("")?;

    let mut table = Table::new(["service", "hears", "lag", "by partition"]);
    for group in &status.groups {
        let lag: Vec<String> = group.lag.iter().map(i64::to_string).collect();
        table.row([group.describe(), group.topic.clone(), group.total.to_string(), lag.join(" ")]);
    }
    table.print()?;
    output::line("")?;

    let mut table =
        Table::new(["service", "outbox", "oldest", "inbox", "effects", "parked", "timers", "open dead letters"]);
    for database in &status.databases {
        if let Some(error) = &database.error {
            // What its instances see of it.
            let beat = status.instances.iter().filter(|instance| instance.service == database.service);
            let beat = beat.filter(|instance| !instance.is_silent()).max_by_key(|instance| instance.sent_at);
            let rows = beat.and_then(|beat| beat.outbox_rows).map(|rows| format!("{rows} by its heartbeat; "));
            let age = beat.and_then(|beat| beat.outbox_age_seconds).map(|age| output::step(age.saturating_mul(1_000)));
            let why = format!("{}its database cannot be read: {}", rows.unwrap_or_default(), output::printable(error));
            table.row([
                database.service.clone(),
                why,
                age.map(|age| age.trim_start_matches('+').to_owned()).unwrap_or_default(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ]);
            continue;
        }
        let alarming = |count: i64| if count > 0 { paint.bad(&count.to_string()) } else { count.to_string() };
        table.row([
            database.service.clone(),
            database.outbox.to_string(),
            database.outbox_age_ms.map(|age| output::step(age).trim_start_matches('+').to_owned()).unwrap_or_default(),
            database.inbox.to_string(),
            database.effects.to_string(),
            alarming(database.parked),
            database.timers.to_string(),
            alarming(database.dead_letters),
        ]);
    }
    table.print()?;
    output::line("")?;
    output::line(&summary(&status))
}

/// The figures on one line.
fn summary(status: &Status) -> String {
    let lag: i64 = status.groups.iter().map(|group| group.total).sum();
    let outbox: i64 = status.databases.iter().map(|database| database.outbox).sum();
    let letters: i64 = status.databases.iter().map(|database| database.dead_letters).sum();
    let parked: i64 = status.databases.iter().map(|database| database.parked).sum();
    let open = output::counted(status.open_sagas, "open saga");
    // In brackets stand all of them, open or not.
    let states: Vec<String> = status.sagas.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let all: i64 = status.sagas.values().sum();
    let states = if states.is_empty() { String::new() } else { format!(" of {all} ({})", states.join(", ")) };
    let silent_ones = status.instances.iter().filter(|instance| instance.is_silent()).count();
    let silent = if silent_ones > 0 { format!(" ({silent_ones} more are silent)") } else { String::new() };
    format!(
        "{}{silent}, lag {lag}, {} to publish, {open}{states}, {}, {}.",
        output::counted(status.instances.len() - silent_ones, "instance"),
        output::counted(outbox, "fact"),
        output::counted(letters, "open dead letter"),
        output::counted(parked, "parked effect"),
    )
}

#[cfg(test)]
mod tests {
    use quadrille_core::Record as _;
    use quadrille_platform::{AssignedTopic, InstanceHeartbeat, RECORD_TYPES};

    use super::*;

    #[test]
    fn what_was_never_read_lags_from_the_first_record_that_there_is() {
        let partition = Partition { topic: "order.events".into(), number: 0, low: 10, high: 50 };
        assert_eq!(lag(&partition, None), 40);
        assert_eq!(lag(&partition, Some(30)), 20);
        assert_eq!(lag(&partition, Some(50)), 0);
        // Retention took what was not read, or the topic was made anew: never a negative lag.
        assert_eq!(lag(&partition, Some(3)), 40);
        assert_eq!(lag(&partition, Some(70)), 0);
    }

    /// One that could not be read would be an instance without a name.
    #[test]
    fn a_heartbeat_is_read_with_all_that_it_says() {
        let answered = DateTime::from_timestamp_micros(1_764_444_444_123_456);
        let beat = InstanceHeartbeat {
            http: "http://0.0.0.0:9102".into(),
            advertised: Some("http://order:9102".into()),
            assigned: vec![AssignedTopic { topic: "order.requests".into(), partitions: vec![0, 3], lag: Some(2) }],
            lag: Some(2),
            outbox_rows: Some(4),
            outbox_age_seconds: Some(5),
            outside_answered_at: answered,
            ..InstanceHeartbeat::new("order-1".into())
        };
        let mut datum = vec![];
        beat.encode(&mut datum);
        let info =
            RECORD_TYPES.iter().find(|info| info.record.name == InstanceHeartbeat::TYPE.name).expect("it is there");
        let json = info.to_json(&datum).expect("it is a heartbeat");
        let read: Instance = serde_json::from_str(&json).expect("all of it");
        assert_eq!((read.instance.as_str(), read.address()), ("order-1", "http://order:9102"));
        assert_eq!((read.lag, read.outbox_rows, read.outbox_age_seconds), (Some(2), Some(4), Some(5)));
        assert_eq!((read.outside_answered_at, read.assigned[0].partitions.as_slice()), (answered, &[0, 3][..]));
    }

    fn group(generation: Option<Generation>) -> Group {
        Group { service: "order".into(), generation, topic: "order.requests".into(), lag: vec![1, 2], total: 3 }
    }

    #[test]
    fn generations_are_told_where_there_are_others_than_the_first() {
        let of = |number, serves| group(Some(Generation { number, serves }));
        assert_eq!(group(None).describe(), "order");
        assert_eq!(of(1, false).describe(), "order");
        assert_eq!(of(2, true).describe(), "order.g2 (serves)");
        let json = |group: Group| serde_json::to_value(group).expect("it is JSON");
        assert_eq!(json(group(None)).get("generation"), None);
        assert_eq!(json(of(2, true))["generation"], serde_json::json!({ "number": 2, "serves": true }));
    }

    #[test]
    fn the_last_line_has_the_figures() {
        let group = group(None);
        let sagas = BTreeMap::from([("delivered".to_owned(), 4), ("shipped".to_owned(), 2)]);
        let database = Database { service: "order".into(), outbox: 5, dead_letters: 1, ..Database::default() };
        let status = Status { instances: vec![], groups: vec![group], databases: vec![database], sagas, open_sagas: 2 };
        assert_eq!(
            summary(&status),
            "0 instances, lag 3, 5 facts to publish, 2 open sagas of 6 (4 delivered, 2 shipped), 1 open dead letter, 0 parked effects."
        );
    }
}
