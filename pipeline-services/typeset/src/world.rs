//! The files, fonts and library a template can see.
//!
//! A template reads its own directory, `/report.json` and `/assets`, and nothing else: no network,
//! no packages, no clock. The same inputs give the same bytes.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use typst::diag::{FileError, FileResult};
use typst::foundations::{Bytes, Datetime, Duration};
use typst::syntax::{DiagSpan, FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World, WorldExt};

use crate::TypesetError;
use crate::glyphs::make_printable;

/// Path of the data as a template names it, without the slash in front.
const DATA_PATH: &str = "report.json";
/// Beginning of the paths of assets as a template names them.
const ASSETS_PREFIX: &str = "assets/";

/// Parts of a [`FileWorld`].
pub(crate) struct Inputs<'a> {
    /// File name and text of the template.
    pub main: (String, String),
    /// The JSON served as `/report.json`.
    pub data: serde_json::Value,
    /// The directory the template may import from.
    pub folder: Option<PathBuf>,
    /// The directory served as `/assets`.
    pub assets: Option<PathBuf>,
    /// A directory of additional fonts.
    pub fonts: Option<&'a Path>,
}

/// One template, one data file, one directory of assets.
pub(crate) struct FileWorld {
    library: LazyHash<Library>,
    book: LazyHash<FontBook>,
    fonts: Vec<Font>,
    main: Source,
    data: Bytes,
    /// Characters of the data that no font can show.
    pub(crate) missing_glyphs: usize,
    folder: Option<PathBuf>,
    assets: Option<PathBuf>,
    /// The compiler asks for the same file many times, and must get the same answer each time.
    read: Mutex<HashMap<FileId, FileResult<Bytes>>>,
}

impl FileWorld {
    /// A world of these inputs and the built-in fonts.
    pub(crate) fn new(inputs: Inputs<'_>) -> Result<Self, TypesetError> {
        let (name, text) = inputs.main;
        let path = VirtualPath::new(&name)
            .map_err(|_| TypesetError::Template(vec![format!("{name}: not usable as a file name")]))?;
        let id = RootedPath::new(VirtualRoot::Project, path).intern();
        let mut fonts: Vec<Font> = typst_assets::fonts().flat_map(|f| Font::iter(Bytes::new(f))).collect();
        if let Some(folder) = inputs.fonts {
            fonts.extend(load_fonts(folder)?);
        }
        let mut data = inputs.data;
        // Only now: what can be printed depends on the fonts.
        let missing_glyphs = make_printable(&mut data, &fonts);
        Ok(Self {
            library: LazyHash::new(Library::builder().build()),
            book: LazyHash::new(FontBook::from_fonts(&fonts)),
            fonts,
            main: Source::new(id, text),
            data: Bytes::new(data.to_string().into_bytes()),
            missing_glyphs,
            folder: inputs.folder,
            assets: inputs.assets,
            read: Mutex::default(),
        })
    }

    /// `file:line:column` of a diagnostic, where it points into a file.
    pub(crate) fn place(&self, span: DiagSpan) -> Option<String> {
        let id = span.id()?;
        let name = id.get().vpath().get_without_slash().to_owned();
        let position = self.range(span).and_then(|range| self.line_and_column(id, &range));
        Some(match position {
            Some((line, column)) => format!("{name}:{line}:{column}"),
            None => name,
        })
    }

    fn line_and_column(&self, id: FileId, range: &Range<usize>) -> Option<(usize, usize)> {
        let source = self.source(id).ok()?;
        let (line, column) = source.lines().byte_to_line_column(range.start)?;
        Some((line + 1, column + 1))
    }

    fn read_file(&self, id: FileId) -> FileResult<Bytes> {
        let rooted = id.get();
        if *rooted.root() != VirtualRoot::Project {
            return Err(FileError::Other(Some("packages are not available to report templates".into())));
        }
        let path = rooted.vpath().get_without_slash();
        if path == DATA_PATH {
            return Ok(self.data.clone());
        }
        let (root, inside) = match path.strip_prefix(ASSETS_PREFIX) {
            // Without a directory of assets the name is free for the template's own.
            Some(rest) if self.assets.is_some() => (self.assets.as_deref(), rest),
            _ => (self.folder.as_deref(), path),
        };
        let root = root.ok_or_else(|| FileError::NotFound(PathBuf::from(path)))?;
        // Refuses what would lead out of the root.
        let inside = VirtualPath::new(inside).map_err(|_| FileError::AccessDenied)?;
        let full = inside.realize(root)?;
        std::fs::read(&full).map(Bytes::new).map_err(|e| FileError::from_io(e, &full))
    }
}

impl World for FileWorld {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        &self.book
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.main.id() {
            return Ok(self.main.clone());
        }
        let text = String::from_utf8(self.file(id)?.to_vec())?;
        Ok(Source::new(id, text))
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        if id == self.main.id() {
            return Ok(Bytes::from_string(self.main.clone()));
        }
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.entry(id).or_insert_with(|| self.read_file(id)).clone()
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.get(index).cloned()
    }

    /// No clock: a report's dates come from its data.
    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}

fn load_fonts(folder: &Path) -> Result<Vec<Font>, TypesetError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let extension = path.extension().map(|e| e.to_ascii_lowercase());
        if extension.is_some_and(|e| e == "ttf" || e == "otf") {
            files.push(path);
        }
    }
    // Directory order differs between file systems; the choice among equal fonts must not.
    files.sort();
    let mut fonts = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, error))?;
        fonts.extend(Font::iter(Bytes::new(bytes)));
    }
    Ok(fonts)
}

fn unreadable(path: &Path, source: io::Error) -> TypesetError {
    TypesetError::Read { path: path.to_owned(), source }
}
