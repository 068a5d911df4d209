//! `quadrille check`: the choreography before it runs.
//!
//! It is collected from the services' declarations as they were built into this program, and from the schemas folder; or read from
//! a file. Neither broker nor registry nor database is asked.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use quadrille_choreography::{Change, Choreography, Generated, Kind, Problem, check, generated};

use crate::{Catalogue, catalogue, input, output};

/// What to check, and against what.
#[derive(clap::Args, Debug, Default)]
pub struct Options {
    /// Write what is generated: docs/choreography.md, .svg and .json, docs/asyncapi.yaml
    #[arg(long, conflicts_with = "choreography")]
    pub write: bool,
    /// Tell what changed since a git revision, or since a choreography's file, as Markdown for a pull request
    #[arg(long, value_name = "REV")]
    pub against: Option<String>,
    /// Check this choreography, a JSON file like docs/choreography.json [what the services declare]
    #[arg(long, value_name = "FILE")]
    pub choreography: Option<PathBuf>,
    /// The schemas folder [the one around this folder]
    #[arg(long, value_name = "FOLDER")]
    pub schemas: Option<PathBuf>,
}

/// Checks, and says whether nothing is wrong.
pub fn run(catalogue: &Catalogue, options: &Options) -> anyhow::Result<bool> {
    let schemas = catalogue::folder(options.schemas.as_deref())?;
    let checkout = schemas.canonicalize()?.parent().map(Path::to_owned).unwrap_or_default();
    let folder = match quadrille_schemas::check(&schemas) {
        Ok(folder) => folder,
        // Without sound schemas there are no topics and records to check the rest by.
        Err(found) => {
            let problems: Vec<Problem> = found.0.into_iter().map(Problem::from).collect();
            return report(&Choreography::default(), &problems, options);
        }
    };
    let choreography = match &options.choreography {
        Some(file) => read(file)?.over(&folder),
        None => Choreography::declared(catalogue.declarations(), &folder),
    };
    let mut problems = check(&choreography);
    if options.choreography.is_none() {
        let files = generated(&choreography);
        if options.write {
            for file in &files {
                file.write(&checkout).with_context(|| format!("{} cannot be written", file.path))?;
            }
        }
        problems.extend(files.iter().filter_map(|file| file.differs(&checkout)));
    }
    if let Some(against) = &options.against {
        let before = match Path::new(against) {
            file if file.is_file() => read(file)?.over(&folder),
            _ => before(&checkout, against)?,
        };
        if before.services.is_empty() {
            output::line(&format!("{against} has no {} yet: all is new.\n", Generated::DOCUMENT))?;
        }
        output::line(&Change::between(&before, &choreography).to_string())?;
        if !Path::new(against).is_file() {
            problems.extend(rewritten(&checkout, against)?);
        }
    }
    report(&choreography, &problems, options)
}

/// Names every problem, as a list where it goes into a pull request, and ends with the figures.
fn report(choreography: &Choreography, problems: &[Problem], options: &Options) -> anyhow::Result<bool> {
    let bullet = if options.against.is_some() { "- " } else { "" };
    problems.iter().try_for_each(|problem| output::line(&format!("{bullet}{problem}")))?;
    if options.against.is_some() && !problems.is_empty() {
        output::line("")?;
    }
    output::line(&format!(
        "check: {} services, {} events, {} topics, {} problems",
        choreography.services.len(),
        choreography.facts().count(),
        choreography.topics.len(),
        problems.len()
    ))?;
    Ok(problems.is_empty())
}

fn read(file: &Path) -> anyhow::Result<Choreography> {
    let text = input::text(Some(file)).with_context(|| format!("{} cannot be read", file.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!("{} is no choreography: docs/choreography.json shows what one looks like", file.display())
    })
}

/// The choreography of a revision, as it was committed; nothing of that revision is built.
fn before(checkout: &Path, against: &str) -> anyhow::Result<Choreography> {
    let document = Generated::DOCUMENT;
    ensure!(
        git(checkout, &["rev-parse", "--verify", "--quiet", &format!("{against}^{{commit}}")]).is_ok(),
        "{against} is neither a file nor a revision that git knows"
    );
    match git(checkout, &["show", &format!("{against}:{document}")]) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{document} of {against} cannot be read by this version")),
        // Before the first choreography was kept, there was none.
        Err(_) => Ok(Choreography::default()),
    }
}

/// Frozen versions that the revision has in another form: records were written with them, and are read by them.
fn rewritten(checkout: &Path, against: &str) -> anyhow::Result<Vec<Problem>> {
    let versions = ":(glob)schemas/*/versions/*.avsc";
    let changed =
        git(checkout, &["diff", "--name-only", "--no-renames", "--diff-filter=MDT", against, "--", versions])?;
    let problem = |file: &str| {
        let event = file.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        let what = format!("is a frozen version, and {against} has it in another form");
        Problem::new(Kind::Schema, file, event, what, format!("restore it: git checkout {against} -- {file}"))
    };
    Ok(changed.lines().map(problem).collect())
}

fn git(checkout: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new("git").arg("-C").arg(checkout).args(arguments).output().context("git cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A git repository of one commit, in a folder that goes with it.
    struct Checkout(PathBuf);

    impl Checkout {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("quadrille-check-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            git(&root, &["init", "--quiet"]).unwrap();
            git(&root, &["add", "."]).unwrap();
            let who = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
            git(&root, &[&who[..], &["commit", "--quiet", "--message", "A"]].concat()).unwrap();
            Self(root)
        }
    }

    impl Drop for Checkout {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_choreography_of_a_revision_is_the_committed_one() {
        let committed = r#"{"services": [{"name": "a", "states": ["Made"]}]}"#;
        let checkout = Checkout::new("before", &[(Generated::DOCUMENT, committed)]);
        fs::write(checkout.0.join(Generated::DOCUMENT), "{}").unwrap();
        assert_eq!(before(&checkout.0, "HEAD").unwrap().services[0].states, ["Made"]);
        let unknown = before(&checkout.0, "nowhere").unwrap_err().to_string();
        assert_eq!(unknown, "nowhere is neither a file nor a revision that git knows");
        let none = Checkout::new("none", &[("README.md", "before the first choreography")]);
        assert_eq!(before(&none.0, "HEAD").unwrap(), Choreography::default());
    }

    #[test]
    fn a_frozen_version_that_was_changed_or_removed_since_is_a_problem() {
        let (first, second) = ("schemas/a.events/versions/Made.1.avsc", "schemas/a.events/versions/Made.2.avsc");
        let checkout = Checkout::new("frozen", &[(first, "{}"), (second, "{}"), ("schemas/a.events/Made.avsc", "{}")]);
        assert_eq!(rewritten(&checkout.0, "HEAD").unwrap(), []);
        fs::write(checkout.0.join("schemas/a.events/Made.avsc"), "[]").unwrap();
        fs::write(checkout.0.join("schemas/a.events/versions/Made.3.avsc"), "[]").unwrap();
        assert_eq!(rewritten(&checkout.0, "HEAD").unwrap(), []);
        fs::write(checkout.0.join(first), "[]").unwrap();
        fs::remove_file(checkout.0.join(second)).unwrap();
        let told: Vec<String> = rewritten(&checkout.0, "HEAD").unwrap().iter().map(Problem::to_string).collect();
        let what = "Made: is a frozen version, and HEAD has it in another form; restore it: git checkout HEAD --";
        assert_eq!(told, [format!("{first}: {what} {first}"), format!("{second}: {what} {second}")]);
    }
}
