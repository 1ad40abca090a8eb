//! The `huecry` command.

/// A look-up takes and gives back memory hundreds of times: with the system's allocator whole answers cost a fifth more. jemalloc, because it
/// gives memory back and keeps little for each thread: of mimalloc's, 250 nodes in one process took 50 to 1,400 MiB more.
/// `.cargo/config.toml` has its settings.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    // A huge page is resident from its first byte: no allocator and no system may give us one. A kernel without them has nothing to refuse.
    let _nothing_to_refuse = nix::sys::prctl::set_thp_disable(true);
    huecry::cli::main()
}
