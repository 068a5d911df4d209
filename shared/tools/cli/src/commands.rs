//! The commands and their options; what each does is its own module's business.

use std::{
    convert::Infallible,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand, builder::NonEmptyStringValueParser};
use uuid::Uuid;

use crate::{
    Catalogue, Settings,
    catalogue::Declared,
    check, dead_letters, decode, doctor, effects, encode, example, group,
    kafka::{self, Start},
    kcat,
    operate::{Person, id, said},
    output, produce, replay, schemas,
    settings::Overrides,
    status, topics, watch,
};

/// Commands of a workspace's own, beside those that every workspace has.
pub trait Commands: Subcommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What it could not do, as people read it: [`run_with`] prints it, and the exit status is 1.
    fn run(self, settings: &Settings) -> impl Future<Output = anyhow::Result<ExitCode>>;
}

/// None.
impl Commands for Infallible {
    async fn run(self, _: &Settings) -> anyhow::Result<ExitCode> {
        match self {}
    }
}

/// Quadrille: event-choreographed services on Kafka.
#[derive(Debug, Parser)]
#[command(name = "quadrille", version, max_term_width = 120, arg_required_else_help = true)]
struct Cli<Own: Subcommand> {
    #[command(flatten)]
    world: World,
    #[command(subcommand)]
    command: AnyCommand<Own>,
}

#[derive(Debug, Subcommand)]
enum AnyCommand<Own: Subcommand> {
    #[command(flatten)]
    Own(Own),
    #[command(flatten)]
    Platform(Command),
}

/// Where to work; the environment's QUADRILLE__<SECTION>__<KEY> say the same.
#[derive(Args, Debug)]
struct World {
    /// The Kafka brokers, host:port [QUADRILLE__KAFKA__BROKERS, default 127.0.0.1:9092]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// The schema registry's Confluent API [QUADRILLE__REGISTRY__URL]
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
    /// An isolated world's topic prefix [QUADRILLE__KAFKA__TOPIC_PREFIX]
    #[arg(long, global = true, value_name = "PREFIX")]
    topic_prefix: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Topics, as schemas/topics.toml declares them.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Schemas: registered, checked, frozen.
    #[command(subcommand)]
    Schemas(SchemasCommand),
    /// Check the choreography that the services declare, before it runs; exit status 1 if anything is wrong.
    Check(check::Options),
    /// Show a valid JSON of a record type to start from; without a type, all types.
    Example(ExampleArgs),
    /// Encode JSON as framed Avro, for plain kcat.
    #[command(after_long_help = ENCODE_HELP)]
    Encode(EncodeArgs),
    /// Decode framed Avro: one record, or what kcat consumes.
    #[command(after_long_help = DECODE_HELP)]
    Decode(DecodeArgs),
    /// Send JSON as records with the contract's headers.
    Produce(ProduceArgs),
    /// Watch records as they come, decoded and coloured by saga; with --until and --for or --to-end, wait for them.
    Watch(WatchArgs),
    /// Consumer groups: how far services have read.
    #[command(subcommand)]
    Group(GroupCommand),
    /// What services ask of the outside and has no outcome yet.
    #[command(subcommand)]
    Effects(EffectsCommand),
    /// What services could not handle, and what waits behind it.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Show instances, how far groups have come, what is open and what waits.
    Status {
        #[command(flatten)]
        form: Form,
    },
    /// Say what is wrong with a set-up and how to fix it; exit status 1 if anything is.
    Doctor {
        #[command(flatten)]
        form: Form,
    },
    /// Show what is in force of brokers, registry, databases and prefixes, where each value comes from and what else it may be, passwords
    /// hidden; of one key the value alone.
    Config {
        /// The key, e.g. kafka.brokers
        key: Option<String>,
    },
    /// Decisions that services recorded.
    #[command(subcommand)]
    History(HistoryCommand),
    /// Make recorded decisions again with this build's policies; exit status 1 if any differs.
    Replay {
        /// What `quadrille history export` wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Write a completion script for a shell to standard output.
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

const ENCODE_HELP: &str = "\
Examples:
  BROKERS=$(quadrille config kafka.brokers)
  quadrille encode TYPE record.json | kcat -P -b \"$BROKERS\" -t TOPIC -k KEY -D :end-of-record:
  quadrille encode --keys TYPE records.json | kcat -P -b \"$BROKERS\" -t TOPIC -K ' ' -D :end-of-record:

kcat cuts its standard input at each byte 10, which Avro contains (the number 5 is such a byte): -D names a delimiter that
does not occur instead, and encode refuses to write a record in which it does occur. A pipe named as a file, as in
`kcat -P ... /dev/stdin` or `kcat -P ... <(quadrille encode ...)`, is skipped by kcat 1.7 without a word. A record in a real
file can be sent as it is: kcat -P ... FILE.";

const DECODE_HELP: &str = "\
Examples:
  BROKERS=$(quadrille config kafka.brokers)
  kcat -C -b \"$BROKERS\" -t TOPIC -u -f \"$(quadrille decode --kcat-format)\" | quadrille decode
  quadrille encode TYPE record.json | quadrille decode

The format has lengths, so that records are told apart exactly, whatever bytes they hold. -u makes kcat write each at once.";

#[derive(Args, Debug)]
struct ExampleArgs {
    /// A record type: `quadrille example` lists them
    r#type: Option<String>,
    /// The fields with their meaning instead
    #[arg(long)]
    docs: bool,
    /// With a new UUID as its key
    #[arg(long)]
    fresh: bool,
    /// Change a field, e.g. lines.0.quantity=5; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
}

#[derive(Args, Debug)]
struct EncodeArgs {
    /// A record type: `quadrille example` lists them
    r#type: String,
    /// JSON, one document or several one after another [standard input]
    file: Option<PathBuf>,
    /// What stands between records: the same as kcat's -D
    #[arg(long, default_value = kcat::DELIMITER, value_parser = NonEmptyStringValueParser::new())]
    delimiter: String,
    /// Write each record's key and a blank before it, for kcat's -K ' '
    #[arg(long)]
    keys: bool,
    /// The schema id instead of the registry's, which then need not be there
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    schema_id: Option<u32>,
}

#[derive(Args, Debug)]
struct DecodeArgs {
    /// What to decode [standard input]
    file: Option<PathBuf>,
    /// Print the format for kcat's -f, and nothing else
    #[arg(long)]
    kcat_format: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(Args, Debug)]
struct ProduceArgs {
    /// A record type: `quadrille example` lists them
    r#type: String,
    /// JSON, one document or several one after another [standard input]
    file: Option<PathBuf>,
    /// The record key [the one that the value names]
    #[arg(long)]
    key: Option<String>,
    /// ce_id, which makes a repeat of the request the same request [a new one]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// ce_source [/quadrille/cli]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
    /// No headers at all
    #[arg(long)]
    no_headers: bool,
    /// Also to a topic that only a service may write, and under a key that no service takes
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(Args, Debug)]
struct WatchArgs {
    /// Topics, * for any text, e.g. '*.events' [all but the heartbeats]
    topics: Vec<String>,
    /// Only this key, in any spelling (* for any text); may be repeated
    #[arg(long)]
    key: Vec<String>,
    /// Only this record type (* for any text); may be repeated
    #[arg(long)]
    r#type: Vec<String>,
    /// Only this saga, by its correlation id; may be repeated
    #[arg(long)]
    correlation: Vec<String>,
    /// beginning, end, an offset, a time, or how long ago (10m)
    #[arg(long, default_value = "end", value_parser = watch::start)]
    from: Start,
    /// End after so many records; exit status 3 if there were fewer by the time or end that is given
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    until: Option<u64>,
    /// End after this time, e.g. 30s
    #[arg(long = "for", value_name = "TIME", value_parser = watch::seconds)]
    time: Option<std::time::Duration>,
    /// End when what is there now was shown
    #[arg(long)]
    to_end: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Make missing topics and correct settings that differ; a differing partition count is refused.
    Apply {
        /// How many brokers keep each record [as topics.toml says, else the broker's default]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
        replication_factor: Option<u16>,
        #[command(flatten)]
        from: From,
    },
    /// Show every declared topic and whether it is as declared.
    List {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
enum SchemasCommand {
    /// Register every schema that is not registered yet, after checking its compatibility.
    Apply {
        #[command(flatten)]
        from: From,
    },
    /// Check schemas against our rules, their frozen versions and what is registered.
    Check {
        #[command(flatten)]
        from: From,
        /// Leave the registry out
        #[arg(long)]
        offline: bool,
    },
    /// Keep each changed schema as a new version in schemas/<topic>/versions.
    Freeze {
        #[command(flatten)]
        from: From,
    },
    /// Show every subject with id and state.
    List {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// Have a stopped service read again what it has read. Without --yes it only says what that would do, with exit status 1.
    Rewind {
        /// The service
        service: String,
        /// beginning, an offset, a time like 2026-01-31T12:00:00Z, or 10m for ten minutes ago
        #[arg(long, value_parser = watch::before_the_end)]
        to: Start,
        /// Only this topic, or topic/partition; may be repeated
        #[arg(long, value_name = "TOPIC[/PARTITION]")]
        topic: Vec<String>,
        /// Do it
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Show what lies at an offset that a running service cannot get past, and with --yes have the service pass over it: it becomes a
    /// dead letter. Without --yes, or if it is refused, exit status 1.
    Skip {
        /// The service
        service: String,
        /// The offset
        #[arg(value_name = "TOPIC/PARTITION@OFFSET", value_parser = group::named)]
        place: group::Named,
        /// Who asks: a name or an address; --yes needs it
        #[arg(long, value_parser = said)]
        who: Option<String>,
        /// Why, in your own words; --yes needs it
        #[arg(long, value_parser = said)]
        why: Option<String>,
        /// Do it
        #[arg(long, requires = "who", requires = "why")]
        yes: bool,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
enum EffectsCommand {
    /// Show open effects, parked ones first.
    List {
        /// Of this service only
        #[arg(long)]
        service: Option<String>,
        /// Only those that wait for a person
        #[arg(long)]
        parked: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Show one effect, and what a person could state of it.
    Show {
        /// Its id
        #[arg(value_parser = id)]
        id: Uuid,
        #[command(flatten)]
        form: Form,
    },
    /// Have a parked effect tried again; the outside is asked about it first. Exit status 1 if that is refused.
    Redrive {
        /// Its id
        #[arg(value_parser = id)]
        id: Uuid,
        #[command(flatten)]
        person: Person,
        #[command(flatten)]
        form: Form,
    },
    /// State the outcome that the outside does not tell. Exit status 1 if that is refused.
    Answer {
        /// The effect's id
        #[arg(value_parser = id)]
        id: Uuid,
        /// The outcome as JSON; `quadrille effects show ID` has examples
        outcome: String,
        #[command(flatten)]
        person: Person,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Show open dead letters, the oldest first.
    List {
        /// Of this service only
        #[arg(long)]
        service: Option<String>,
        #[command(flatten)]
        form: Form,
    },
    /// Show one dead letter with its original.
    Show {
        /// Its id
        #[arg(value_parser = id)]
        id: Uuid,
        #[command(flatten)]
        form: Form,
    },
    /// Have dead letters handled again by the service that failed, and then what waits behind them.
    Redrive {
        #[command(flatten)]
        which: dead_letters::Which,
        #[command(flatten)]
        person: Person,
        #[command(flatten)]
        form: Form,
    },
    /// Give dead letters up: they are never handled, and what waits behind them goes on.
    Discard {
        #[command(flatten)]
        which: dead_letters::Which,
        #[command(flatten)]
        person: Person,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
enum HistoryCommand {
    /// Write what services recorded with history.keep = true to a file, for replay.
    Export {
        /// The file
        #[arg(long)]
        out: PathBuf,
        /// Of this service only
        #[arg(long)]
        service: Option<String>,
    },
}

#[derive(Args, Debug)]
struct From {
    /// The schemas folder [the one around this folder, else what was built in]
    #[arg(long, value_name = "FOLDER")]
    schemas: Option<PathBuf>,
}

impl From {
    fn declared(&self, settings: &Settings) -> anyhow::Result<Declared> {
        settings.catalogue.declared(self.schemas.as_deref())
    }
}

#[derive(Args, Debug)]
struct Form {
    /// JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// The exit status of a watch that saw fewer records than it was to see: 1 is for what failed, 2 for what was not understood.
const FEWER: u8 = 3;

/// Runs the command that the process was started with, for the topics, records and services of `catalogue`.
pub async fn run(catalogue: Catalogue) -> ExitCode {
    run_with::<Infallible>(catalogue).await
}

/// The same with further commands.
pub async fn run_with<Own: Commands>(catalogue: Catalogue) -> ExitCode {
    let cli = Cli::<Own>::parse();
    kafka::on_wait(output::note);
    match dispatch(cli, catalogue).await {
        Ok(code) => code,
        Err(error) => {
            output::note(&output::failure(&error));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch<Own: Commands>(cli: Cli<Own>, catalogue: Catalogue) -> anyhow::Result<ExitCode> {
    let World { brokers, registry, topic_prefix } = cli.world;
    let loaded = Settings::loaded(catalogue, Overrides { brokers, registry, topic_prefix })?;
    let settings = &loaded.settings;
    let command = match cli.command {
        AnyCommand::Own(command) => return command.run(settings).await,
        AnyCommand::Platform(command) => command,
    };
    match command {
        Command::Topics(TopicsCommand::Apply { replication_factor, from }) => {
            topics::apply(settings, &from.declared(settings)?.topics, replication_factor).await?;
        }
        Command::Topics(TopicsCommand::List { from, form }) => {
            topics::list(settings, &from.declared(settings)?.topics, form.json).await?;
        }
        Command::Schemas(SchemasCommand::Apply { from }) => schemas::apply(settings, &from.declared(settings)?).await?,
        Command::Schemas(SchemasCommand::Check { from, offline }) => {
            schemas::check(settings, from.schemas.as_deref(), offline).await?;
        }
        Command::Schemas(SchemasCommand::Freeze { from }) => schemas::freeze(from.schemas.as_deref())?,
        Command::Schemas(SchemasCommand::List { from, form }) => {
            schemas::list(settings, &from.declared(settings)?, form.json).await?;
        }
        Command::Check(options) => return Ok(done(check::run(&catalogue, &options)?)),
        Command::Example(ExampleArgs { r#type, docs, fresh, set }) => {
            example::run(&catalogue, r#type.as_deref(), &example::Options { docs, fresh, set })?;
        }
        Command::Encode(EncodeArgs { r#type, file, delimiter, keys, schema_id }) => {
            let options = encode::Options { delimiter, keys, schema_id };
            encode::run(settings, &r#type, file.as_deref(), &options).await?;
        }
        Command::Decode(DecodeArgs { kcat_format: true, .. }) => output::line(kcat::FORMAT)?,
        Command::Decode(DecodeArgs { file, form, .. }) => {
            blocking(|| decode::run(settings, file.as_deref(), form.json))?;
        }
        Command::Produce(ProduceArgs { r#type, file, key, id, source, no_headers, anyway, form }) => {
            let options = produce::Options { key, id, source, no_headers, anyway, json: form.json };
            produce::run(settings, &r#type, file.as_deref(), &options).await?;
        }
        Command::Watch(WatchArgs { topics, key, r#type, correlation, from, until, time, to_end, form }) => {
            let options = watch::Options {
                topics,
                keys: key,
                types: r#type,
                correlations: correlation,
                from: if to_end && from == Start::End { Start::Beginning } else { from },
                until,
                time,
                to_end,
                json: form.json,
            };
            let show = if options.json { output::json_text } else { output::line };
            if !blocking(|| watch::run(settings, &options, show))? {
                return Ok(ExitCode::from(FEWER));
            }
        }
        Command::Group(GroupCommand::Rewind { service, to, topic, yes, form }) => {
            let options = group::Options { to, only: topic, yes, json: form.json };
            return Ok(done(blocking(|| group::rewind(settings, &service, &options))?));
        }
        Command::Group(GroupCommand::Skip { service, place, who, why, yes, form }) => {
            let Some((who, why)) = who.zip(why).filter(|_| yes) else {
                group::show(settings, &service, &place).await?;
                return Ok(done(false));
            };
            let person = Person { who, why };
            return Ok(done(group::skip(settings, &service, &place, &person, form.json).await?));
        }
        Command::Effects(EffectsCommand::List { service, parked, form }) => {
            effects::list(settings, service.as_deref(), parked, form.json).await?;
        }
        Command::Effects(EffectsCommand::Show { id, form }) => effects::show(settings, id, form.json).await?,
        Command::Effects(EffectsCommand::Redrive { id, person, form }) => {
            return Ok(done(effects::redrive(settings, id, &person, form.json).await?));
        }
        Command::Effects(EffectsCommand::Answer { id, outcome, person, form }) => {
            return Ok(done(effects::answer(settings, id, &outcome, &person, form.json).await?));
        }
        Command::DeadLetters(DeadLettersCommand::List { service, form }) => {
            dead_letters::list(settings, service.as_deref(), form.json).await?;
        }
        Command::DeadLetters(DeadLettersCommand::Show { id, form }) => {
            dead_letters::show(settings, id, form.json).await?;
        }
        Command::DeadLetters(DeadLettersCommand::Redrive { which, person, form }) => {
            return Ok(done(dead_letters::redrive(settings, &which, &person, form.json).await?));
        }
        Command::DeadLetters(DeadLettersCommand::Discard { which, person, form }) => {
            return Ok(done(dead_letters::discard(settings, &which, &person, form.json).await?));
        }
        Command::Status { form } => status::run(settings, form.json).await?,
        Command::Doctor { form } => {
            if !doctor::run(settings, form.json).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Config { key: None } => output::line(loaded.describe().trim_end())?,
        Command::Config { key: Some(key) } => output::line(&loaded.value(&key)?)?,
        Command::History(HistoryCommand::Export { out, service }) => {
            let decisions = replay::export(settings, &out, service.as_deref()).await?;
            output::line(&format!("{} in {}", output::counted(decisions, "decision"), out.display()))?;
        }
        Command::Replay { files } => return Ok(done(replay::run(&catalogue.build(), &files)?)),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::<Own>::command(), program(), &mut script);
            output::bytes(&script)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The name by which this program was called: a workspace may give its own another.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
    name.unwrap_or("quadrille").to_owned()
}

fn done(done: bool) -> ExitCode {
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs what blocks where that hinders nobody else.
fn blocking<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    tokio::task::block_in_place(work)
}
