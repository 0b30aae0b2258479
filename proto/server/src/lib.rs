//! Admission of callers to a server of the contract: connections, TLS and client certificates, and
//! the clients of a file with what they may do and how much of it.
//!
//! The cost of a call and the scope it needs are each server's own.
//!
//! | module | what it does |
//! |---|---|
//! | [`connections`] | how many connections a port has, and how long a silent one stays |
//! | [`tls`] | certificates, client roots, handshakes |
//! | [`access`] | the clients file: who may call, for what, and how much in a minute |
//! | [`http`] | HTTP/1.1 with time-outs; answers of health probes |
//! | [`watched`] | files that are read again when they change |
//!
//! Promises:
//!
//! - A new connection to a full port replaces the one that was silent for longest, never a call.
//! - A faulty new certificate or clients file changes nothing; the old one stays in use.
//! - An address gives no rights: a caller on the same machine needs a token too.
//!
//! The inference server and the pipeline's services use it alike. Read on in `SECURITY.md` and
//! `docs/configuration.md` ("Callers").

pub mod access;
pub mod connections;
pub mod http;
pub mod tls;
pub mod watched;
