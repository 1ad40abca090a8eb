//! Has the linker keep one of several functions with the same machine code: generics are compiled in each unit that uses them, and code that
//! is mapped is resident.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A linker that does not know it says so and goes on; lld, Rust's own on this platform, does.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
