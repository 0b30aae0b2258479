//! How a server of the contract takes callers in: how many connections there are and how long a
//! silent one stays, TLS and client certificates, and the clients of a file with what they may do
//! and how much of it.
//!
//! Files are read again when they change. What a call costs and which scope it needs is each
//! server's own.

pub mod access;
pub mod connections;
pub mod http;
pub mod tls;
pub mod watched;
