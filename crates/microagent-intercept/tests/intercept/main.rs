//! The interceptor between real clients and real servers, all of them on loopback.

mod bed;
mod certificates;
mod endings;
mod host;
mod pass;
mod placeholders;
mod programs;
mod swaps;
mod tokens;
