//! The front door of the project's servers: connection limits and time-outs, TLS and client
//! certificates, and the clients file with permissions and quotas.
//!
//! Files are read again when they change. Each server decides by itself what a call costs and which
//! scope it needs.

pub mod access;
pub mod connections;
pub mod http;
pub mod tls;
pub mod watched;
