//! What the documents show runs: blocks marked `sh run`, in a shop of their own.
//!
//! A document's blocks run one after another in one shell, as a reader's would. Two commands are other ones there: `quadrille`
//! and `kcat` see this shop's topics where a reader's see the main ones.

use std::{collections::BTreeSet, path::Path, time::Duration};

use quadrille_cli::Settings;
use quadrille_show::{
    Shop,
    binaries::{find, root},
};
use tokio::process::Command;

use super::markdown::{Document, documents};

/// How long one document's commands may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The shell's two other commands.
const SHELL: &str = r#"
quadrille() { env "${WORLD[@]}" quadrille "$@"; }
kcat() {
  local arguments=()
  while [ $# != 0 ]; do
    case $1 in
      -t) arguments+=(-t "$PREFIX$2") && shift 2 ;;
      -b) arguments+=(-b "$BROKERS") && shift 2 ;;
      *) arguments+=("$1") && shift ;;
    esac
  done
  command kcat "${arguments[@]}"
}
PS4='$ '
set -x
"#;

#[test]
fn every_shell_block_runs_or_says_why_not() {
    for document in documents() {
        for block in document.blocks().iter().filter(|block| block.info.starts_with("sh")) {
            let reason = block.info.strip_prefix("sh not run: ").unwrap_or_default();
            assert!(
                block.info == "sh run" || !reason.is_empty(),
                "{}: mark this block `sh run`, or `sh not run: <reason>`:\n{}",
                document.name,
                block.text
            );
        }
    }
}

#[tokio::test]
async fn every_command_that_a_document_names_is_known_with_its_options() -> anyhow::Result<()> {
    let mut named = BTreeSet::new();
    for document in documents() {
        let blocks = document.blocks();
        let shell = blocks.iter().filter(|block| block.info.starts_with("sh"));
        let lines = shell.flat_map(|block| block.text.split(['\n', '|'])).map(str::to_owned);
        for command in document.spans().into_iter().chain(lines) {
            let Some(rest) = command.trim().strip_prefix("quadrille ") else { continue };
            let words: Vec<&str> = rest.split_whitespace().collect();
            let is_name = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            let names: Vec<String> = words.iter().take_while(is_name).map(ToString::to_string).collect();
            let options = words.iter().filter(|word| word.starts_with("--"));
            let options: Vec<String> = options.filter_map(|word| Some(word.split('=').next()?.to_owned())).collect();
            named.insert((names, options, format!("{}: `{}`", document.name, command.trim())));
        }
    }
    assert!(named.len() >= 20, "{named:?}");
    let program = find("quadrille")?;
    for (names, options, place) in named {
        let help = Command::new(&program).args(&names).arg("--help").output().await?;
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success(), "{place}: {}", String::from_utf8_lossy(&help.stderr));
        for option in options {
            assert!(text.contains(&option), "{place}: {names:?} has no {option}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_documents_do_what_they_say() -> anyhow::Result<()> {
    let shop = Shop::open("documents", 1).await?;
    // A reader types after the services have come up: what they hear is read to its end by then.
    shop.stock().await?;
    let mut count = 0;
    for document in documents() {
        let blocks = document.blocks();
        let commands: String =
            blocks.into_iter().filter(|block| block.info == "sh run").map(|block| block.text).collect();
        if !commands.is_empty() {
            run(&document, &commands, &shop.world.settings).await?;
            count += 1;
        }
    }
    assert!(count >= 2, "{count} documents have commands to run");
    Ok(())
}

async fn run(document: &Document, commands: &str, world: &Settings) -> anyhow::Result<()> {
    let programs = find("quadrille")?;
    let programs = programs.parent().unwrap_or(Path::new("."));
    let variables = [
        ("KAFKA__BROKERS", &world.kafka.brokers),
        ("KAFKA__TOPIC_PREFIX", &world.kafka.topic_prefix),
        ("KAFKA__GROUP_PREFIX", &world.kafka.group_prefix),
        ("REGISTRY__URL", &world.registry.url),
        ("DATABASE__BASE_URL", &world.database.base_url),
        ("DATABASE__PREFIX", &world.database.prefix),
        ("PROVIDER__URL", &world.provider.url),
    ];
    let variables: Vec<String> = variables.iter().map(|(key, value)| format!("'QUADRILLE__{key}={value}'")).collect();
    let script = format!(
        "WORLD=({}) PREFIX='{}' BROKERS='{}'\n{SHELL}\n{commands}",
        variables.join(" "),
        world.kafka.topic_prefix,
        world.kafka.brokers
    );
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).current_dir(root()).kill_on_drop(true);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUADRILLE_")) {
        bash.env_remove(name);
    }
    if !document.text.contains("export PATH=") {
        let path = std::env::var("PATH").unwrap_or_default();
        bash.env("PATH", format!("{}:{path}", programs.display()));
    }
    let output = tokio::time::timeout(PATIENCE, bash.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {}\n{said}", document.name, String::from_utf8_lossy(&output.stdout));
    Ok(())
}
