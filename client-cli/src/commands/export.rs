//! `export`: writes stored rows to a file.
//!
//! A regular file appears whole or not at all; devices, pipes and standard output are streamed to.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::bail;
use observatory_proto::pipeline::v1::{ExportRequest, export_service_client::ExportServiceClient};

use crate::client::{MAX_MESSAGE_BYTES, answer, refusal};
use crate::context::Context;
use crate::output::{Outcome, Progress, Stdout, progress};

/// Export stored postings, skills or clusters to a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rows to export.
    subject: Subject,
    /// File format.
    #[arg(long, default_value = "csv")]
    format: Format,
    /// Write CSV that a Spanish Excel opens correctly: byte-order mark, semicolons, decimal commas.
    #[arg(long)]
    excel: bool,
    /// Output file, or `-` for standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only rows seen in this country.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CC")]
    country: String,
    /// Only rows seen on this portal.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "P")]
    portal: String,
}

/// Kinds of rows.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Subject {
    /// Rows of raw_jobs, with the occupation of each.
    Postings,
    /// Rows of enhanced_skills.
    Skills,
    /// Skills of the latest clustering, with their cluster and coordinates.
    Clusters,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

/// Writes the file completely or not at all.
///
/// # Errors
/// If the service cannot be reached or refuses, or the file cannot be written.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    if arguments.excel && !matches!(arguments.format, Format::Csv) {
        bail!("--excel requires --format csv");
    }
    let out = arguments.out.clone();
    let request = request(arguments);
    if out.as_os_str() == "-" {
        // The errors of `Stdout` name it themselves.
        copy(context, request, &mut Stdout, |error| error.into()).await?;
        return Ok(Outcome::Done);
    }
    if fs::metadata(&out).is_ok_and(|found| !found.is_file()) {
        // A device or a pipe must be written in place: renaming a file over it would replace it.
        let opened = fs::OpenOptions::new().write(true).open(&out);
        let mut file = opened.map_err(|error| unwritable(&out, error))?;
        copy(context, request, &mut file, |error| unwritable(&out, error)).await?;
        return Ok(Outcome::Done);
    }
    // tempfile defaults to 0600; use the mode that any new file of the user gets.
    let mode = fs::Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(mode).tempfile_in(folder_of(&out));
    let mut file = file.map_err(|error| unwritable(&out, error))?;
    // Counted here, because a temporary file is renamed and its size would have to be asked for.
    let bytes = copy(context, request, &mut file, |error| unwritable(&out, error)).await?;
    // Before the rename: after a crash the name must not lead to a part of the content.
    file.as_file().sync_all().map_err(|error| unwritable(&out, error))?;
    file.persist(&out).map_err(|error| unwritable(&out, error))?;
    progress(format_args!("wrote {bytes} bytes to {}", out.display()));
    Ok(Outcome::Done)
}

fn unwritable(out: &Path, error: impl Into<anyhow::Error>) -> anyhow::Error {
    error.into().context(format!("cannot write {}", out.display()))
}

fn request(arguments: Arguments) -> ExportRequest {
    let subject = match arguments.subject {
        Subject::Postings => "postings",
        Subject::Skills => "skills",
        Subject::Clusters => "clusters",
    };
    let format = match arguments.format {
        Format::Csv => "csv",
        Format::Jsonl => "jsonl",
    };
    ExportRequest {
        subject: subject.to_owned(),
        format: format.to_owned(),
        country: arguments.country,
        portal: arguments.portal,
        excel: arguments.excel,
    }
}

/// The folder of a file; that of a bare name is the current one.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

async fn copy(
    context: &Context,
    request: ExportRequest,
    target: &mut impl Write,
    unwritable: impl Fn(io::Error) -> anyhow::Error,
) -> anyhow::Result<u64> {
    let mut service = ExportServiceClient::new(context.client.pipeline().await?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut chunks = answer(service.export(request).await)?;
    let mut written = Progress::open_ended("bytes written");
    let mut bytes = 0;
    while let Some(part) = chunks.message().await.map_err(|status| refusal(&status))? {
        target.write_all(&part.chunk).map_err(&unwritable)?;
        bytes += part.chunk.len() as u64;
        written.advance(part.chunk.len() as u64);
    }
    target.flush().map_err(&unwritable)?;
    Ok(bytes)
}
