//! The subcommands: the only room that names all others.

pub mod demo;
