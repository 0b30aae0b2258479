//! A GPU emulated by the CPU: the kernels' sources, compiled by a C++ compiler with
//! `emulated/gpu.h` in place of `ptx.cu`.
//!
//! Allocations are filled with NaN and every access of the host is checked, so that a kernel that
//! reads what nothing has written, or a copy out of bounds, fails a test.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use observatory_inference::testing::kernels::{
    Address, Argument, Download, Element, Entry, GemmOperands, GemmShape, Gpu, GpuError, Kernel, Memory,
    Source,
};
use sha2::{Digest, Sha256};

/// Runs a kernel: addresses of its arguments, grid, threads of a block, bytes of shared memory.
type Run = unsafe extern "C" fn(*mut *mut c_void, *const c_uint, c_uint, c_uint);

/// Held while a kernel runs: shared memory is a global variable of the emulator.
static RUNNING: Mutex<()> = Mutex::new(());
/// Compiled kernels of this process, by text and options.
static COMPILED: Mutex<BTreeMap<String, Vec<Run>>> = Mutex::new(BTreeMap::new());

/// A launch, captured or about to run.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    kernel: Kernel,
    grid: [usize; 3],
    arguments: Vec<Argument>,
}

/// An emulated GPU, with counters for tests.
pub(crate) struct Emulated {
    element: Element,
    runs: Vec<Run>,
    memory: HashMap<Address, Vec<u128>>,
    capture: Option<Vec<Launch>>,
    /// Bytes of memory, free or allocated.
    pub(crate) capacity: u64,
    /// Launches, GEMMs, replays and captures so far.
    pub(crate) launches: usize,
    pub(crate) multiplied: usize,
    pub(crate) replays: usize,
    pub(crate) captures: usize,
}

/// Floats that were copied at once: an emulated stream has done its work when a call returns.
#[derive(Debug, Default)]
pub(crate) struct Arrived(Vec<f32>);

impl Download for Arrived {
    fn wait(&mut self) -> Result<&[f32], GpuError> {
        Ok(&self.0)
    }
}

impl Emulated {
    pub(crate) fn new(element: Element) -> Self {
        Self {
            element,
            runs: Vec::new(),
            memory: HashMap::new(),
            capture: None,
            capacity: 1 << 30,
            launches: 0,
            multiplied: 0,
            replays: 0,
            captures: 0,
        }
    }

    fn taken(&self) -> u64 {
        self.memory.values().map(|held| size_of_val(held.as_slice()) as u64).sum()
    }

    /// The bytes from an address on, which must be within one allocation.
    #[allow(unsafe_code, reason = "addresses are those of this process")]
    fn bytes(&self, at: Address, count: usize) -> &[u8] {
        self.check(at, count);
        // SAFETY: just checked to be within an allocation that `self` owns.
        unsafe { std::slice::from_raw_parts(at as *const u8, count) }
    }

    #[allow(unsafe_code, reason = "addresses are those of this process")]
    fn bytes_mut(&mut self, at: Address, count: usize) -> &mut [u8] {
        self.check(at, count);
        // SAFETY: just checked to be within an allocation that `self` owns, and `self` is borrowed
        // exclusively.
        unsafe { std::slice::from_raw_parts_mut(at as *mut u8, count) }
    }

    #[track_caller]
    fn check(&self, at: Address, count: usize) {
        let inside = self.memory.iter().any(|(begin, held)| {
            *begin <= at && at + count as u64 <= begin + size_of_val(held.as_slice()) as u64
        });
        assert!(inside, "{count} bytes at {at:#x} are not within an allocation");
    }

    pub(crate) fn floats(&self, element: Element, at: Address, count: usize) -> Vec<f32> {
        let bytes = self.bytes(at, count * element.bytes());
        match element {
            Element::Bf16 => {
                bytes.as_chunks().0.iter().map(|x| half::bf16::from_le_bytes(*x).to_f32()).collect()
            }
            Element::F16 => {
                bytes.as_chunks().0.iter().map(|x| half::f16::from_le_bytes(*x).to_f32()).collect()
            }
            Element::F32 => bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        }
    }

    #[allow(unsafe_code, reason = "kernels are C++")]
    fn run(&mut self, Launch { kernel, grid, arguments }: &Launch) {
        self.launches += 1;
        let grid = grid.map(|count| count as c_uint);
        let mut addresses: Vec<*mut c_void> =
            arguments.iter().map(|argument| std::ptr::from_ref(argument.bits()).cast_mut().cast()).collect();
        let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller passes what the kernel declares, as with a real GPU; addresses are of
        // allocations that `self` owns. `_running` keeps other kernels from the shared globals.
        unsafe {
            let (threads, shared) = (kernel.threads as c_uint, kernel.shared as c_uint);
            self.runs[kernel.index](addresses.as_mut_ptr(), grid.as_ptr(), threads, shared);
        }
    }
}

/// The compiled library of a source. It is kept for the other tests, which have a process each, and
/// compiling takes most of their time.
fn library(text: &str, options: &[String]) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated");
    std::fs::create_dir_all(&kept).unwrap();
    // The processor counts: with `-march=native` another one may lack the instructions.
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let features = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let digest = Sha256::digest(format!("{features}{options:?}{text}"));
    let library = kept.join(hex::encode(digest)).with_extension("so");
    if !library.exists() {
        let dir = tempfile::tempdir_in(&kept).unwrap();
        // Renamed, so that another process never loads a half.
        std::fs::rename(build(dir.path(), text, options), &library).unwrap();
    }
    library
}

fn build(dir: &Path, text: &str, defines: &[String]) -> PathBuf {
    let (source, library) = (dir.join("kernels.cpp"), dir.join("kernels.so"));
    std::fs::write(&source, text).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut command = Command::new(&compiler);
    command
        .args(["-std=c++17", "-O1", "-march=native", "-fPIC", "-shared", "-w", "-ffp-contract=off"])
        .args(defines);
    let made = command.arg(&source).arg("-o").arg(&library).output();
    let made = made.unwrap_or_else(|error| panic!("the C++ compiler {compiler} is needed: {error}"));
    assert!(made.status.success(), "{compiler}: {}", String::from_utf8_lossy(&made.stderr));
    library
}

/// Loads functions of a library, which is never unloaded.
#[allow(unsafe_code, reason = "kernels are C++")]
fn load(library: &Path, names: impl Iterator<Item = String>) -> Vec<Run> {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library was just compiled from our sources; its initialisers touch its own
    // variables.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL as c_int) };
    assert!(!handle.is_null(), "{}", last_error());
    let find = |name: String| {
        let name = CString::new(name).unwrap();
        // SAFETY: the handle is never closed.
        let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
        assert!(!found.is_null(), "{}", last_error());
        // SAFETY: ENTRY of `emulated/gpu.h` defines the function with this signature.
        unsafe { std::mem::transmute::<*mut c_void, Run>(found) }
    };
    names.map(find).collect()
}

#[allow(unsafe_code, reason = "dlerror returns a C string")]
fn last_error() -> String {
    // SAFETY: dlerror returns a string that is valid until the next call of the loader, or null.
    unsafe {
        let words: *const c_char = libc::dlerror();
        if words.is_null() { String::new() } else { CStr::from_ptr(words).to_string_lossy().into_owned() }
    }
}

impl Gpu for Emulated {
    type Graph = Vec<Launch>;
    type Download = Arrived;

    fn element(&self) -> Element {
        self.element
    }

    fn memory(&self) -> Result<Memory, GpuError> {
        Ok(Memory { free: self.capacity - self.taken(), total: self.capacity })
    }

    fn compile(
        &mut self,
        source: Source,
        defines: &[(&str, String)],
        entries: &[Entry],
    ) -> Result<Vec<Kernel>, GpuError> {
        let mut text = include_str!("emulated/gpu.h").to_owned() + &source.body();
        entries.iter().for_each(|entry| text.push_str(&format!("ENTRY({})\n", entry.name)));
        let mut options = vec![format!("-DELEMENT={}", self.element as usize)];
        options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = compiled.entry(format!("{options:?}{text}")).or_insert_with(|| {
            load(&library(&text, &options), entries.iter().map(|entry| format!("run_{}", entry.name)))
        });
        let first = self.runs.len();
        self.runs.extend_from_slice(runs);
        let kernel = |(at, entry): (usize, &Entry)| Kernel {
            index: first + at,
            threads: entry.threads,
            shared: entry.shared,
        };
        Ok(entries.iter().enumerate().map(kernel).collect())
    }

    /// Memory filled with NaN.
    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        if self.taken() + bytes as u64 > self.capacity {
            return Err(GpuError::OutOfMemory(format!("no room for {bytes} bytes")));
        }
        let held = vec![u128::MAX; bytes.div_ceil(size_of::<u128>()).max(1)];
        let address = held.as_ptr() as Address;
        self.memory.insert(address, held);
        Ok(address)
    }

    fn release(&mut self, address: Address) -> Result<(), GpuError> {
        assert!(self.memory.remove(&address).is_some(), "not held");
        Ok(())
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        assert!(self.capture.is_none(), "launches only");
        self.bytes_mut(to, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError> {
        let held = self.bytes(from, bytes).to_vec();
        self.upload(to, &held)
    }

    fn launch(&mut self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<(), GpuError> {
        let launch = Launch { kernel, grid, arguments: arguments.to_vec() };
        match &mut self.capture {
            Some(launches) => launches.push(launch),
            None => self.run(&launch),
        }
        Ok(())
    }

    fn multiply(
        &mut self,
        GemmShape { inputs, outputs, result }: GemmShape,
        GemmOperands { weight, bias, input, addend, output }: GemmOperands,
        rows: usize,
    ) -> Result<(), GpuError> {
        assert!(self.capture.is_none(), "launches only");
        self.multiplied += 1;
        let weights = self.floats(self.element, weight, inputs * outputs);
        let x = self.floats(self.element, input, rows * inputs);
        let count = rows * outputs;
        let mut y = addend.map_or_else(|| vec![0.0; count], |address| self.floats(result, address, count));
        if let Some(bias) = bias {
            let bias = self.floats(result, bias, outputs);
            y.iter_mut().zip(bias.iter().cycle()).for_each(|(y, bias)| *y += bias);
        }
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
            for (weights, y) in weights.chunks_exact(inputs).zip(y) {
                *y += x.iter().zip(weights).map(|(x, weight)| x * weight).sum::<f32>();
            }
        }
        let bytes = result.encode(&y);
        self.bytes_mut(output, bytes.len()).copy_from_slice(&bytes);
        Ok(())
    }

    fn new_download(&self) -> Arrived {
        Arrived::default()
    }

    fn download(&mut self, from: Address, count: usize, to: &mut Arrived) -> Result<(), GpuError> {
        assert!(self.capture.is_none(), "launches only");
        to.0 = self.floats(Element::F32, from, count);
        Ok(())
    }

    fn tensor(&mut self, from: Address, shape: (usize, usize)) -> Result<Tensor, GpuError> {
        let floats = self.floats(Element::F32, from, shape.0 * shape.1);
        Ok(Tensor::from_vec(floats, shape, &Device::Cpu).unwrap())
    }

    fn begin_capture(&mut self) -> Result<(), GpuError> {
        self.captures += 1;
        self.capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&mut self) -> Result<Self::Graph, GpuError> {
        Ok(self.capture.take().expect("a capture under way"))
    }

    fn replay(&mut self, graph: &Self::Graph) -> Result<(), GpuError> {
        self.replays += 1;
        graph.iter().for_each(|launch| self.run(launch));
        Ok(())
    }
}
