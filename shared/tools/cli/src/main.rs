//! `quadrille`: see the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    quadrille_cli::run().await
}
