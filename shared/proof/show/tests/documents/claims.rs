//! What the documents name is there, and is all there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use quadrille_core::ids;
use quadrille_roster::SERVICES;
use quadrille_show::binaries::{find, root};

use super::markdown::{document, documents};

/// Facts that the contract lists as not built yet.
const NOT_BUILT: [&str; 1] = ["CredentialsChanged"];

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of all files below a folder with one of these extensions.
fn texts(folder: impl AsRef<Path>, extensions: &[&str]) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(texts(path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            found.push(read(path));
        }
    }
    found
}

/// The texts of all Rust files below a folder.
fn sources(folder: impl AsRef<Path>) -> Vec<String> {
    texts(folder, &["rs"])
}

/// The text literals that follow `mark` in a source, e.g. the names in `counter!("..`.
fn literals<'a>(source: &'a str, mark: &str) -> Vec<&'a str> {
    let behind = source.split(mark).skip(1);
    behind.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    for document in documents() {
        let folder = root().join(&document.name).parent().unwrap().to_owned();
        for (link, target) in document.links() {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').map_or((target.as_str(), None), |(path, a)| (path, Some(a)));
            let path = if path.is_empty() { root().join(&document.name) } else { folder.join(path) };
            assert!(path.exists(), "{}: {link} leads nowhere", document.name);
            if let Some(anchor) = anchor {
                let linked = path.canonicalize().unwrap();
                let linked = super::markdown::document(linked.strip_prefix(root()).unwrap().to_str().unwrap());
                let anchors = linked.anchors();
                assert!(anchors.iter().any(|known| known == anchor), "{}: {target}: {anchors:?}", document.name);
            }
        }
    }
}

#[test]
fn every_heading_stands_behind_a_blank_line() {
    for document in documents() {
        let prose = document.prose();
        let mut lines = prose.lines().zip(prose.lines().skip(1));
        let crowded = lines.find(|(above, line)| line.starts_with('#') && !above.trim().is_empty());
        assert_eq!(crowded, None, "{}", document.name);
    }
}

#[test]
fn every_function_that_a_document_names_exists() {
    let mut count = 0;
    for document in documents() {
        let prose = document.prose();
        let folder = root().join(&document.name).parent().unwrap().to_owned();
        // [`file.rs`](path) `fn name`, then `fn name`
        for link in prose.split("[`").skip(1) {
            let Some((file, rest)) = link.split_once("`](").filter(|(file, _)| file.ends_with(".rs")) else { continue };
            let Some((path, rest)) = rest.split_once(')') else { continue };
            assert!(path.ends_with(file), "{}: {file} is not {path}", document.name);
            let source = read(folder.join(path));
            let until = rest.find(['[', '|', '.']).unwrap_or(rest.len());
            for function in rest[..until].split("`fn ").skip(1).filter_map(|rest| rest.split('`').next()) {
                let defined = [format!("fn {function}("), format!("fn {function}<")];
                assert!(
                    defined.iter().any(|defined| source.contains(defined)),
                    "{}: there is no fn {function} in {path}",
                    document.name
                );
                count += 1;
            }
        }
    }
    assert!(count >= 60, "{count} functions");
}

#[test]
fn every_make_target_that_a_document_names_exists_and_each_is_explained() {
    let makefile = read("Makefile");
    let rules = makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
    let targets: BTreeSet<&str> =
        rules.filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')).collect();
    for document in documents() {
        let blocks = document.blocks();
        let lines = blocks.iter().filter(|block| block.info.starts_with("sh")).flat_map(|block| block.text.lines());
        for command in document.spans().iter().map(String::as_str).chain(lines) {
            let words = command.split_whitespace().skip_while(|word| *word != "make").skip(1);
            let Some(target) = words.take_while(|word| *word != "#").next() else { continue };
            assert!(targets.contains(target), "{}: `{command}`: there is no target {target}", document.name);
        }
    }
    let operating = document("docs/operating.md").text;
    for target in makefile.lines().filter(|line| line.contains(": ") && line.contains(" ## ")) {
        let target = target.split(':').next().unwrap();
        assert!(operating.contains(&format!("`make {target}`")), "docs/operating.md does not explain `make {target}`");
    }
}

#[test]
fn the_metrics_and_settings_of_operating_are_those_that_exist() {
    let operating = document("docs/operating.md");
    let runtime = sources("shared/library/runtime/src");
    let marks = ["counter!(", "gauge!(", "histogram!("];
    let metrics: BTreeSet<&str> =
        runtime.iter().flat_map(|source| marks.iter().flat_map(|mark| literals(source, mark))).collect();
    let rows = operating.rows();
    let told: BTreeSet<&str> =
        rows.iter().map(|row| row[0].trim_matches('`')).filter(|name| name.starts_with("quadrille_")).collect();
    assert_eq!(told, metrics);

    for service in SERVICES {
        let config = Command::new(find(&format!("quadrille-{service}")).unwrap())
            .arg("config")
            .env_clear()
            .output()
            .unwrap_or_else(|error| panic!("quadrille-{service} config: {error}"));
        let config = String::from_utf8(config.stdout).unwrap();
        assert!(config.contains("kafka.brokers = "), "quadrille-{service} config: {config}");
        for line in config.lines() {
            let (key, rest) = line.split_once(" = ").unwrap_or_else(|| panic!("quadrille-{service} config: {line}"));
            let (_, may_be) = rest.split_once("; ").unwrap_or_else(|| panic!("quadrille-{service} config: {line}"));
            let told = rows.iter().filter(|row| row.len() == 4 && row[0] == format!("`{key}`"));
            let told: Vec<String> = told.map(|row| row[2].replace('\\', "")).collect();
            assert!(
                told.iter().any(|told| told == may_be),
                "docs/operating.md tells of {key} of {service} {told:?}, and not {may_be}"
            );
        }
    }
}

#[test]
fn the_contract_lists_every_reason_of_a_dead_letter() {
    let contract = document("docs/contract.md").text;
    let runtime = sources("shared/library/runtime/src");
    let reasons: BTreeSet<&str> = runtime.iter().flat_map(|source| literals(source, "Rejection::new(")).collect();
    assert!(reasons.len() >= 10, "{reasons:?}");
    for reason in reasons {
        assert!(contract.contains(&format!("`{reason}`")), "docs/contract.md does not list `{reason}`");
    }
}

#[test]
fn the_contract_says_what_each_service_hears_and_states() {
    let topics = std::fs::read_dir(root().join("schemas")).unwrap().map(|entry| entry.unwrap().path());
    let files = topics.filter(|path| path.is_dir()).flat_map(|topic| std::fs::read_dir(topic).unwrap());
    let records: BTreeSet<String> =
        files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".avsc")?.to_owned())).collect();
    let named = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.filter(|word| records.contains(*word) && !NOT_BUILT.contains(word)).map(str::to_owned).collect()
    };

    let contract = document("docs/contract.md");
    let mut told: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    for row in contract.rows().iter().filter(|row| row.len() == 3 && SERVICES.contains(&row[0].as_str())) {
        let [hears, states] = told.entry(row[0].clone()).or_default();
        hears.extend(named(&row[1]));
        states.extend(named(&row[2]));
    }
    for service in SERVICES {
        let lib = read(format!("services/{service}/src/lib.rs"));
        let set = |name: &str| {
            let body = lib.split(&format!("pub enum {name} {{")).nth(1).and_then(|rest| rest.split('}').next());
            let lines = body.unwrap_or_default().lines().filter(|line| !line.trim_start().starts_with("//"));
            named(&lines.collect::<Vec<_>>().join("\n"))
        };
        assert_eq!(told[service], [set("Heard"), set("Stated")], "what {service} hears and states");
    }
}

#[test]
fn test_vectors_are_what_is_computed() {
    let mut count = 0;
    for row in document("docs/events.md").rows().iter().filter(|row| row.len() == 3) {
        let Ok(parts) = serde_json::from_str::<Vec<String>>(row[1].trim_matches('`')) else { continue };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        assert_eq!(ids::v5(&parts).to_string(), row[2].trim_matches('`'), "{}", row[0]);
        count += 1;
    }
    assert!(count >= 9, "{count} vectors");
}

/// The workspace through which docs/writing-a-service.md leads.
const WORKSPACE: &str = "docs/meters";

#[test]
fn the_code_of_writing_a_service_is_that_of_the_workspace_the_examples_and_the_services() {
    let kinds = ["rust", "toml", "json", "sql"];
    let mut files = texts(WORKSPACE, &["rs", "toml", "avsc", "sql"]);
    files.extend(texts("shared/library/runtime/examples", &["rs"]));
    files.extend(texts("services", &["rs"]));
    let blocks = document("docs/writing-a-service.md").blocks();
    let code: Vec<_> = blocks.iter().filter(|block| kinds.contains(&&*block.info)).collect();
    assert!(code.len() >= 20, "{} blocks", code.len());
    for block in code {
        assert!(files.iter().any(|file| file.contains(&block.text)), "this is in no file:\n{}", block.text);
    }
}

/// Two workspaces in one target folder build a dependency once if they ask for the same profile, version and features.
#[test]
fn the_workspace_is_built_as_the_library_is() {
    let (library, own) = (read("Cargo.toml"), read(format!("{WORKSPACE}/Cargo.toml")));
    let section = |text: &str, head: &str| -> BTreeSet<String> {
        let lines = text.lines().skip_while(|line| *line != head).skip(1).take_while(|line| !line.starts_with('['));
        lines.filter(|line| line.contains(" = ")).map(str::to_owned).collect()
    };
    for head in ["[profile.dev]", "[profile.dev.package.\"*\"]"] {
        assert!(!section(&own, head).is_empty(), "{WORKSPACE} has no {head}");
        assert_eq!(section(&own, head), section(&library, head), "{head} of {WORKSPACE}");
    }
    let wanted = section(&library, "[workspace.dependencies]");
    let own = section(&own, "[workspace.dependencies]");
    let outside: Vec<&String> = own.iter().filter(|line| !line.contains("path = ")).collect();
    assert!(outside.len() >= 5, "{outside:?}");
    for line in outside {
        assert!(wanted.contains(line), "{WORKSPACE} asks for another {line}");
    }
}
