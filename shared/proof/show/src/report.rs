//! What a show comes to: figures, and what fell short.

use std::process::ExitCode;

use quadrille_cli::output::Paint;
use quadrille_program::say;

/// The figures of a show, and what fell short of its promise.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<String>,
    short: Vec<String>,
}

impl Report {
    /// A figure for the last line.
    pub fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// What must hold; where it does not, `shortfall` says so.
    pub fn must(&mut self, holds: bool, shortfall: impl FnOnce() -> String) {
        if !holds {
            self.short.push(shortfall());
        }
    }

    /// What must be empty; what is there is told, the first few of it.
    pub fn must_be_none(&mut self, what: &str, found: &[String]) {
        const TOLD: usize = 5;
        let more = if found.len() > TOLD { format!("; and {} more", found.len() - TOLD) } else { String::new() };
        self.must(found.is_empty(), || format!("{what}: {}{more}", found[..found.len().min(TOLD)].join("; ")));
    }

    /// Whether nothing fell short.
    pub fn is_good(&self) -> bool {
        self.short.is_empty()
    }

    /// What fell short.
    pub fn shortfalls(&self) -> &[String] {
        &self.short
    }

    /// Tells what fell short, then the figures on one line.
    pub fn print(&self, show: &str) -> ExitCode {
        let paint = Paint::detect();
        for shortfall in &self.short {
            say!("{} {shortfall}", paint.bad("falls short:"));
        }
        let figures = self.figures.join(", ");
        if self.is_good() {
            say!("{}: {figures}", paint.good(show));
            ExitCode::SUCCESS
        } else {
            say!("{}: {figures}", paint.bad(&format!("{show} FAILED")));
            ExitCode::FAILURE
        }
    }
}
