//! Which device computes.

pub(crate) mod arbiter;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use candle_core::Device;

use crate::kernels::bf16::Unit;
use arbiter::DeviceArbiter;

/// What a device is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Tokens of one forward pass.
    pub tokens: usize,
    /// Forward passes at a time.
    pub in_flight: usize,
}

/// Of the CPU: its caches hold the activations of so many tokens, and one pass takes all cores.
pub(crate) const CPU_BATCHES: Batches = Batches { tokens: 1_024, in_flight: 1 };
/// Of a GPU: so many tokens fill every kernel, and it begins the next pass while the host takes up
/// the vectors of the one before.
const CUDA_BATCHES: Batches = Batches { tokens: 16_384, in_flight: 2 };

/// What language models get; what is not said depends on the device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationLimits {
    /// Bytes for the keys and values of one model.
    pub kv_bytes: Option<u64>,
    /// Part of a GPU's memory that weights, keys and values of all models may take together, where
    /// no bytes are said.
    pub kv_fraction: f64,
    /// Texts that one model writes at the same time at most.
    pub texts: Option<usize>,
    /// Tokens of one of its steps at most.
    pub step_tokens: Option<usize>,
    /// How long a text may have to wait, by the measured speed, before it is refused.
    pub wait: Duration,
}

/// Part of a GPU's memory that models may take.
pub(crate) const KV_FRACTION: f64 = 0.8;
/// Bytes for keys and values on the CPU.
pub(crate) const CPU_KV_BYTES: u64 = 1 << 30;

impl Default for GenerationLimits {
    fn default() -> Self {
        let wait = Duration::from_secs(30);
        Self { kv_bytes: None, kv_fraction: KV_FRACTION, texts: None, step_tokens: None, wait }
    }
}

impl GenerationLimits {
    /// Texts that one model writes at the same time at most.
    pub fn texts(&self, on_cpu: bool) -> usize {
        self.texts.unwrap_or(if on_cpu { 64 } else { 256 })
    }

    /// Tokens of one step. On the CPU it is short enough that texts being written do not falter
    /// when prompts come in.
    pub fn step_tokens(&self, on_cpu: bool) -> usize {
        self.step_tokens.unwrap_or(if on_cpu { 128 } else { 2_048 })
    }
}

/// The operator's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device where the build and the machine have one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This CUDA device, or an error.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal = |text: &str| text.parse().ok().map(Self::Cuda);
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(ordinal),
        }
        .ok_or_else(|| "allowed are auto, cpu, cuda and cuda:N".to_owned())
    }
}

/// How weights and activations are held, by the models that have a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Precision {
    /// bf16 on a GPU, f32 on the CPU.
    #[default]
    Auto,
    /// 24 bits of significand.
    F32,
    /// 8 bits of significand and the range of f32; sums are f32.
    Bf16,
    /// 11 bits of significand; sums are f32.
    F16,
}

/// An open device and its name in messages ("cpu", "cuda:0").
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// The device.
    pub device: Device,
    /// Its name.
    pub name: String,
    /// How weights and activations are held there; never [`Precision::Auto`].
    pub precision: Precision,
    /// What language models get of it.
    pub text: GenerationLimits,
    /// Whose turn it is.
    pub arbiter: Arc<DeviceArbiter>,
}

impl OpenDevice {
    fn new(device: Device, name: String, precision: Precision) -> Self {
        Self { device, name, precision, text: GenerationLimits::default(), arbiter: Arc::default() }
    }

    /// The same device with another precision.
    ///
    /// # Errors
    /// If the device does not compute so.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self> {
        let refused = match precision {
            Precision::Bf16 => Unit::detect().is_none(),
            Precision::F16 => true,
            Precision::Auto | Precision::F32 => false,
        };
        if self.device.is_cpu() && refused {
            bail!("precision {precision:?}: this processor has no instructions for it, use f32");
        }
        if precision != Precision::Auto {
            self.precision = precision;
        }
        Ok(self)
    }

    /// What it is handed.
    pub fn batches(&self) -> Batches {
        if self.device.is_cpu() { CPU_BATCHES } else { CUDA_BATCHES }
    }
}

/// Opens the device; `Auto` falls back to the CPU and logs why.
///
/// # Errors
/// If a CUDA device was asked for and cannot be had.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice> {
    let cpu = || OpenDevice::new(Device::Cpu, "cpu".to_owned(), Precision::F32);
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::Cuda(ordinal) => cuda(ordinal),
        DeviceChoice::Auto if cfg!(feature = "cuda") => Ok(cuda(0).unwrap_or_else(|error| {
            tracing::warn!(error.message = format!("{error:#}"), "no CUDA device, computing on the CPU");
            cpu()
        })),
        DeviceChoice::Auto => Ok(cpu()),
    }
}

fn cuda(ordinal: usize) -> Result<OpenDevice> {
    if !cfg!(feature = "cuda") {
        bail!(
            "device cuda:{ordinal}: this binary was built without CUDA; build with --features cuda or use --device cpu"
        );
    }
    if !driver_present() {
        bail!("device cuda:{ordinal}: the NVIDIA driver library libcuda was not found on this machine");
    }
    cuda_stream(ordinal)
}

/// One stream for all threads: what one thread puts into the device's memory, another computes
/// with.
#[cfg(feature = "cuda")]
#[allow(unsafe_code, reason = "candle marks it unsafe to leave out the events between streams")]
fn cuda_stream(ordinal: usize) -> Result<OpenDevice> {
    crate::kernels::cuda::libraries().map_err(|error| anyhow::anyhow!("device cuda:{ordinal}: {error}"))?;
    let device = Device::new_cuda_with_stream(ordinal)
        .map_err(|error| anyhow::anyhow!("device cuda:{ordinal}: {error}"))?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: everything on this device goes through its one stream, in order.
    unsafe { cuda.disable_event_tracking() };
    let stream = cuda.cuda_stream();
    let (free, total) = stream.context().mem_get_info()?;
    tracing::info!(
        device.name = stream.context().name()?,
        memory.free_mib = free >> 20,
        memory.total_mib = total >> 20,
        "CUDA device opened"
    );
    Ok(OpenDevice::new(device, format!("cuda:{ordinal}"), Precision::Bf16))
}

#[cfg(not(feature = "cuda"))]
fn cuda_stream(_: usize) -> Result<OpenDevice> {
    bail!("built without CUDA")
}

/// Whether libcuda can be loaded. Touching CUDA without it panics when the driver is loaded at run
/// time.
#[cfg(feature = "cuda-dynamic-loading")]
#[allow(
    unsafe_code,
    reason = "cudarc marks its probe unsafe because loading a library runs its initialisers"
)]
fn driver_present() -> bool {
    // SAFETY: libcuda's initialisers have no preconditions, and CUDA itself would load the same
    // library next.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Linked at build time, the process would not have started without the driver.
#[cfg(not(feature = "cuda-dynamic-loading"))]
fn driver_present() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse() {
        fn check(text: &str, expected: Option<DeviceChoice>) {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        check("auto", Some(DeviceChoice::Auto));
        check("cpu", Some(DeviceChoice::Cpu));
        check("cuda", Some(DeviceChoice::Cuda(0)));
        check("cuda:3", Some(DeviceChoice::Cuda(3)));
        check("cuda:x", None);
        check("gpu", None);
    }

    #[test]
    fn the_cpu_computes_in_bf16_where_it_can() {
        let with = |precision| open(DeviceChoice::Cpu).unwrap().with_precision(precision);
        assert_eq!(with(Precision::Auto).unwrap().precision, Precision::F32);
        assert_eq!(with(Precision::F32).unwrap().precision, Precision::F32);
        match (Unit::detect(), with(Precision::Bf16)) {
            (Some(_), device) => assert_eq!(device.unwrap().precision, Precision::Bf16),
            (None, device) => assert!(device.unwrap_err().to_string().contains("no instructions")),
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_support_is_an_error() {
        let error = open(DeviceChoice::Cuda(0)).unwrap_err();
        assert!(error.to_string().contains("built without CUDA"), "{error}");
        assert_eq!(open(DeviceChoice::Auto).unwrap().name, "cpu");
    }
}
