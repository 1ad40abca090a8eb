//! The `huecry` command.

fn main() -> std::process::ExitCode {
    huecry::cli::main()
}
