//! `quadrille`: see the library.

use std::process::ExitCode;

use quadrille_shop::{CATALOGUE, Command};

#[tokio::main]
async fn main() -> ExitCode {
    quadrille_cli::run_with::<Command>(*CATALOGUE).await
}
