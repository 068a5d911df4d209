//! Standard output and standard error that may close: whoever no longer listens misses nothing, and nothing panics for its sake.

use std::{
    fmt,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::ExitCode,
};

/// What unwinds when nobody reads standard output any more.
struct Closed;

/// Prints a line to standard output, as `println!` does. Where its reader has gone (`| head`) the program ends: its stack unwinds to
/// [`quietly`], so that whatever it has started ends with it.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::print_line(::std::format_args!($($text)*)) };
}

/// See [`say`].
pub fn print_line(text: fmt::Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => resume_unwind(Box::new(Closed)),
        // A full disk, say: as for `println!`, there is nobody to tell it to.
        _ => {}
    }
}

/// Prints a line to standard error. Where nobody reads it, it is not read.
pub fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Runs a program; one whose reader has gone has ended well.
pub fn quietly(program: impl FnOnce() -> ExitCode) -> ExitCode {
    // Nothing of the program is looked at afterwards.
    match catch_unwind(AssertUnwindSafe(program)) {
        Ok(code) => code,
        Err(panic) if panic.is::<Closed>() => ExitCode::SUCCESS,
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_output_ends_well_and_a_panic_stays_one() {
        let ended = quietly(|| resume_unwind(Box::new(Closed)));
        assert_eq!(format!("{ended:?}"), format!("{:?}", ExitCode::SUCCESS));
        assert!(catch_unwind(|| quietly(|| resume_unwind(Box::new("a fault")))).is_err());
    }
}
