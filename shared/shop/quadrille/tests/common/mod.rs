//! A world of its own on the real broker: topics under a fresh prefix, deleted at the end. Schemas are shared with everybody.

#![allow(dead_code, clippy::unwrap_used)] // not every test file needs all of it

use std::{
    io::Write,
    ops::ControlFlow,
    process::{Child, Command, Output, Stdio},
};

use quadrille_cli::{
    Settings,
    kafka::{Admin, Reader, Record, Start},
    settings::Overrides,
};
use quadrille_shop::CATALOGUE;
use uuid::Uuid;

/// The isolated world of one test.
pub struct World {
    pub settings: Settings,
}

impl World {
    /// Makes all topics by `quadrille topics apply`.
    pub fn new() -> Self {
        let world = Self::without_topics();
        world.ok(&["topics", "apply"]);
        world
    }

    pub fn without_topics() -> Self {
        let prefix = format!("c{}.", &Uuid::new_v4().simple().to_string()[..10]);
        let overrides = Overrides { topic_prefix: Some(prefix), ..Overrides::default() };
        Self { settings: Settings::load(*CATALOGUE, overrides).unwrap() }
    }

    /// The program, set up for this world.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quadrille"));
        command
            .args(arguments)
            .env("QUADRILLE__KAFKA__TOPIC_PREFIX", &self.settings.kafka.topic_prefix)
            .env("QUADRILLE__DATABASE__BASE_URL", &self.settings.database.base_url)
            .env("QUADRILLE__DATABASE__PREFIX", &self.settings.database.prefix);
        command
    }

    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        finish(self.command(arguments), input)
    }

    /// Runs it, and expects it to go well: what it said.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, b"")
    }

    #[track_caller]
    pub fn ok_with(&self, arguments: &[&str], input: &[u8]) -> String {
        String::from_utf8(self.bytes(arguments, input)).unwrap()
    }

    #[track_caller]
    pub fn bytes(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
        output.stdout
    }

    /// Runs it, and expects it to refuse: what it complained of.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.run(arguments, input);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        said
    }

    /// kcat at this world's broker, on one of its topics.
    pub fn kcat(&self, topic: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.settings.kafka.brokers, "-t", &self.settings.topic(topic)]).args(arguments);
        command
    }

    /// Everything on a topic, read by the library.
    pub async fn records(&self, topic: &str) -> Vec<Record> {
        let (settings, topic) = (self.settings.clone(), topic.to_owned());
        let read = move || {
            let mut records = vec![];
            Reader::connect(&settings.kafka)
                .unwrap()
                .read_to_end(&topic, Start::Beginning, |record| {
                    records.push(record);
                    Ok(ControlFlow::Continue(()))
                })
                .unwrap();
            records
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let settings = self.settings.clone();
        // A runtime of its own on a thread of its own: a test's may be the one that is just ending.
        let delete = move || {
            let names: Vec<String> = CATALOGUE.topics.iter().map(|topic| settings.topic(&topic.name)).collect();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            if let (Ok(runtime), Ok(admin)) = (runtime, Admin::connect(&settings.kafka)) {
                let _ = runtime.block_on(admin.delete(&names));
            }
        };
        let _ = std::thread::spawn(delete).join();
    }
}

/// Feeds a process and waits for its end.
pub fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut child = spawn(&mut command);
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

pub fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// An order's JSON with a fresh id, changed as asked.
pub fn order(world: &World, changes: &[&str]) -> String {
    let mut arguments = vec!["example", "OrderRequested", "--fresh"];
    for change in changes {
        arguments.extend(["--set", change]);
    }
    world.ok(&arguments)
}

/// A field of a JSON document.
pub fn field(json: &str, pointer: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value.pointer(pointer).unwrap_or_else(|| panic!("{pointer} of {json}")).as_str().unwrap().to_owned()
}
