//! All programs alike: an environment that is not text, and an output that nobody reads.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    process::{Command, Output, Stdio},
};

use quadrille_roster::SERVICES;
use quadrille_show::binaries::find;

/// What needs no server, and prints: a program with its arguments.
fn that_print() -> Vec<(String, Vec<&'static str>)> {
    let mut all: Vec<_> = SERVICES.map(|service| (format!("quadrille-{service}"), vec!["config"])).into();
    all.push(("quadrille".into(), vec!["completions", "bash"]));
    all.push(("quadrille-model".into(), vec!["prove", "--world", "none"]));
    all.push(("quadrille-model".into(), vec!["mutations", "--table"]));
    all.push(("quadrille-replay".into(), vec!["/nowhere"]));
    all.push(("quadrille-bench".into(), vec!["tables", "/nowhere"]));
    all.push(("quadrille-stand-ins".into(), vec!["payment", "--bind", "192.0.2.1:1"]));
    all.push(("quadrille-show".into(), vec!["--help"]));
    all
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(find(program).unwrap());
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// An output that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_closed_output_ends_every_program_quietly() {
    for (program, arguments) in that_print() {
        let output = command(&program, &arguments).stdout(closed()).output().unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("{program} {arguments:?} ended by {}", output.status));
        assert!(code <= 2, "{program} {arguments:?} ended with {code}: {}", said(&output));
        assert!(!said(&output).contains("panicked"), "{program} {arguments:?}: {}", said(&output));
        let status = command(&program, &arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{program} {arguments:?} ends as it does with a reader of its errors");
    }
}

#[test]
fn a_foreign_variable_that_is_no_text_is_none_of_ours() {
    for (program, arguments) in that_print().into_iter().filter(|(_, arguments)| arguments[0] != "mutations") {
        let plain = command(&program, &arguments).output().unwrap();
        let output = command(&program, &arguments).env("X", OsStr::from_bytes(b"caf\xe9")).output().unwrap();
        assert_eq!(said(&output), said(&plain), "{program} {arguments:?}");
        assert_eq!((output.status, output.stdout), (plain.status, plain.stdout), "{program} {arguments:?}");
    }
}

#[test]
fn a_variable_of_ours_that_is_no_text_is_refused_by_name() {
    for service in SERVICES {
        let url = OsStr::from_bytes(b"postgres://me:s3cr\xe9t@h/db");
        let output =
            command(&format!("quadrille-{service}"), &["config"]).env("QUADRILLE__DATABASE__URL", url).output();
        let said = said(&output.unwrap());
        assert!(said.contains("QUADRILLE__DATABASE__URL") && !said.contains("s3cr"), "{said}");
    }
    for (program, argument, variable) in [
        ("quadrille", "status", "QUADRILLE__KAFKA__BROKERS"),
        ("quadrille-stand-ins", "payment", "QUADRILLE_PAYMENT_BIND"),
        ("quadrille-stand-ins", "mail", "QUADRILLE_MAIL_KEEP"),
    ] {
        let output = command(program, &[argument]).env(variable, OsStr::from_bytes(b"caf\xe9")).output().unwrap();
        assert!(!output.status.success(), "{program} {argument}");
        assert!(said(&output).contains(variable), "{}", said(&output));
    }
}
