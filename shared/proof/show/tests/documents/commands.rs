//! What the documents show runs: blocks marked `sh run`, in a shop of their own; blocks marked `sh make` in CI.
//!
//! A document's blocks run one after another in one shell, as a reader's would. Four commands are other ones there: `quadrille`,
//! `kcat` and `infra/local/env` see this shop's world where a reader's see the main one, `curl` this shop's order service.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use quadrille_shop::audit;
use quadrille_show::{
    Shop,
    binaries::{find, root},
};
use tokio::process::Command;

use super::markdown::{Document, documents};

/// How long one document's commands may take.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The shell's other commands.
const SHELL: &str = r#"
quadrille() { env "${WORLD[@]}" quadrille "$@"; }
kcat() {
  local arguments=()
  while [ $# != 0 ]; do
    case $1 in
      -t) arguments+=(-t "$PREFIX$2") && shift 2 ;;
      *) arguments+=("$1") && shift ;;
    esac
  done
  command kcat "${arguments[@]}"
}
curl() { command curl --fail "${@/http:\/\/127.0.0.1:9102/$ORDER}"; }
infra/local/env() {
  [ "$1" != --service ] || shift 2
  if [ "$BASHPID" = "$$" ]; then "$@"; else exec "$@"; fi
}
PS4='$ '
set -x
"#;

#[test]
fn every_shell_block_is_run_by_a_test_or_by_ci() {
    let made = made();
    for document in documents() {
        for block in document.blocks().iter().filter(|block| block.info.starts_with("sh")) {
            let place = format!("{}:\n{}", document.name, block.text);
            match block.info.as_str() {
                "sh run" => {}
                "sh make" => {
                    for line in block.text.lines() {
                        let target = line.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next());
                        let target = target.unwrap_or_else(|| panic!("only make targets in this block of {place}"));
                        assert!(made.contains(target), ".ci/run does not make {target}, of {place}");
                    }
                }
                other => panic!("mark this block `sh run` or `sh make`, not `{other}`, of {place}"),
            }
        }
    }
}

/// The targets that CI makes: `ci` step by step, those that it names beside them, and all that these need.
fn made() -> BTreeSet<String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(
        ci.contains("targets=$(make -s ci-steps)\nfor target in $targets; do step make \"$target\"; done\n"),
        "{ci}"
    );
    let lists: BTreeMap<&str, &str> = makefile.lines().filter_map(|line| line.split_once(" := ")).collect();
    let rules = makefile.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let rules: BTreeMap<String, Vec<String>> = rules
        .map(|line| line.replace("$(ci)", lists["ci"]).replace("$(shows)", lists["shows"]))
        .filter_map(|line| line.split_once(':').map(|(target, rest)| (target.to_owned(), rest.to_owned())))
        .map(|(target, rest)| {
            let needs = rest.split("##").next().unwrap_or_default();
            (target, needs.split_whitespace().map(str::to_owned).collect())
        })
        .collect();
    let named = ci.lines().filter_map(|line| line.strip_prefix("step make "));
    let mut open: Vec<String> = named.map(|target| target.trim().to_owned()).chain(["ci".to_owned()]).collect();
    let mut made = BTreeSet::new();
    while let Some(target) = open.pop() {
        open.extend(rules.get(&target).into_iter().flatten().cloned());
        made.insert(target);
    }
    made
}

/// `make clean` is for people alone: tried where there is nothing to lose.
#[test]
fn make_clean_removes_what_runs_and_its_data() {
    let checkout = std::env::temp_dir().join(format!("quadrille-clean-{}", std::process::id()));
    std::fs::create_dir_all(checkout.join(".run/data/kafka")).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-r", "--parents", "Makefile", "infra/local", "shared/shop/roster/src/lib.rs"])
        .arg(&checkout)
        .current_dir(root())
        .status();
    assert!(copied.unwrap().success());
    let cleaned = std::process::Command::new("make").arg("clean").current_dir(&checkout).output().unwrap();
    assert!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    assert!(!checkout.join(".run").exists());
    std::fs::remove_dir_all(checkout).unwrap();
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
            let is_name = |word: &&&str| {
                !word.starts_with('-') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            };
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
            run(&document, &commands, &shop).await?;
            count += 1;
        }
    }
    assert!(count >= 2, "{count} documents have commands to run");
    Ok(())
}

async fn run(document: &Document, commands: &str, shop: &Shop) -> anyhow::Result<()> {
    let world = &shop.settings;
    let order = shop.instances.iter().find(|instance| instance.service == "order").context("an order service")?;
    let programs = find("quadrille")?;
    let programs = programs.parent().unwrap_or(Path::new("."));
    let provider = audit::provider_url(world).to_owned();
    let variables = [
        ("KAFKA__BROKERS", &world.kafka.brokers),
        ("KAFKA__TOPIC_PREFIX", &world.kafka.topic_prefix),
        ("KAFKA__GROUP_PREFIX", &world.kafka.group_prefix),
        ("REGISTRY__URL", &world.registry.url),
        ("DATABASE__BASE_URL", &world.database.base_url),
        ("DATABASE__PREFIX", &world.database.prefix),
        ("TOOLS__PROVIDER_URL", &provider),
    ];
    let variables: Vec<String> = variables.iter().map(|(key, value)| format!("'QUADRILLE__{key}={value}'")).collect();
    let script = format!(
        "WORLD=({}) PREFIX='{}' ORDER='{}'\n{SHELL}\n{commands}",
        variables.join(" "),
        world.kafka.topic_prefix,
        order.http
    );
    let mut bash = Command::new("bash");
    bash.args(["-p", "-euo", "pipefail", "-c", &script]).current_dir(root()).kill_on_drop(true);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("QUADRILLE_")) {
        bash.env_remove(name);
    }
    bash.env("KCAT_CONFIG", "/dev/null").env("no_proxy", "*");
    // For a service that a document starts.
    bash.envs(shop.environment("order")?);
    if !document.text.contains("export PATH=") {
        let mut path = OsString::from(format!("{}:", programs.display()));
        path.push(std::env::var_os("PATH").unwrap_or_default());
        bash.env("PATH", path);
    }
    let output = tokio::time::timeout(TIMEOUT, bash.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {}\n{said}", document.name, String::from_utf8_lossy(&output.stdout));
    Ok(())
}
