//! The `huecry` command.

/// Half of what a look-up costs is memory taken and given back; the system's own allocator takes a fifth longer over the whole.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    huecry::cli::main()
}
