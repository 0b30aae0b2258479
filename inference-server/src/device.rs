//! The device that models compute on, and the limits that depend on it.
//!
//! One device for the process: the CPU, or one GPU with a single stream. Defaults that depend on
//! the device are chosen here and nowhere else.

pub(crate) mod arbiter;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use candle_core::Device;

use crate::kernels::bf16::Unit;
#[cfg(feature = "cuda")]
use crate::kernels::gpu::Element;
use arbiter::DeviceArbiter;

/// Batch limits of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Maximum tokens of one forward pass of an encoder.
    pub tokens: usize,
    /// Maximum forward passes at the same time.
    pub in_flight: usize,
}

/// Batches of the CPU: its caches hold the activations of this many tokens, and one pass uses all
/// cores. Not tuned by itself: a larger batch only makes others wait longer.
pub(crate) const CPU_BATCHES: Batches = Batches { tokens: 1_024, in_flight: 1 };
/// Batches of a GPU: this many tokens fill every kernel, and the next pass starts while the host
/// copies the vectors of the previous one. See the table of batch sizes in `benches/RESULTS.md`.
const CUDA_BATCHES: Batches = Batches { tokens: 16_384, in_flight: 2 };

/// Limits of language models. `None` picks the device's default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationLimits {
    /// Bytes of the KV cache of one model.
    pub kv_bytes: Option<u64>,
    /// Fraction of a GPU's memory that weights and KV caches of all models may take together; used
    /// if `kv_bytes` is `None`.
    pub kv_fraction: f64,
    /// Maximum running sequences of one model.
    pub running_sequences: Option<usize>,
    /// Step budget: maximum tokens of one step.
    pub step_tokens: Option<usize>,
    /// Maximum estimated wait of a sequence before admission refuses it.
    pub max_wait: Duration,
}

/// Default of [`GenerationLimits::kv_fraction`]; the rest is for activations and other processes.
/// Not tuned: vLLM takes 0.9, for a single model.
pub(crate) const KV_FRACTION: f64 = 0.8;
/// Default bytes of the KV cache on the CPU. Not tuned: some 43,000 tokens of Qwen2.5-0.5B, which
/// take 24 KiB each in f32.
pub(crate) const CPU_KV_BYTES: u64 = 1 << 30;

impl Default for GenerationLimits {
    fn default() -> Self {
        Self {
            kv_bytes: None,
            kv_fraction: KV_FRACTION,
            running_sequences: None,
            step_tokens: None,
            max_wait: Duration::from_secs(30),
        }
    }
}

impl GenerationLimits {
    /// Maximum running sequences of one model.
    pub fn running_sequences(&self, on_cpu: bool) -> usize {
        // Not tuned: a CPU gains little beyond 64 rows, a GPU reads its weights once for all 256.
        self.running_sequences.unwrap_or(if on_cpu { 64 } else { 256 })
    }

    /// Maximum tokens of one step. On the CPU steps are short, so that prefill of a new prompt does
    /// not stall the sequences that are being decoded.
    pub fn step_tokens(&self, on_cpu: bool) -> usize {
        // Not tuned: 128 tokens are some 0.7 s of Qwen2.5-0.5B on two cores (benches/RESULTS.md).
        self.step_tokens.unwrap_or(if on_cpu { 128 } else { 2_048 })
    }
}

/// Requested device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device if the build and the machine support one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this ordinal.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok()).map(Self::Cuda),
        }
        // clap puts "invalid value '…' for '--device'" before it.
        .ok_or_else(|| "expected auto, cpu, cuda or cuda:N".to_owned())
    }
}

/// Number format of weights and activations, for the models that have a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Precision {
    /// bf16 on a GPU, f32 on the CPU.
    #[default]
    Auto,
    /// Single precision, 24 bits of significand.
    F32,
    /// bfloat16, 8 bits of significand and the range of f32; sums are f32.
    Bf16,
    /// Half precision, 11 bits of significand; sums are f32.
    F16,
}

#[cfg(feature = "cuda")]
impl Precision {
    /// Element type of weights and activations on a GPU.
    pub(crate) fn element(self) -> Element {
        match self {
            Self::F32 => Element::F32,
            Self::F16 => Element::F16,
            Self::Bf16 | Self::Auto => Element::Bf16,
        }
    }
}

/// An open device with the settings of the models on it.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// The device.
    pub device: Device,
    /// "cpu" or "cuda:0", in listings and messages.
    pub name: String,
    /// Number format of weights and activations; never [`Precision::Auto`].
    pub precision: Precision,
    /// Limits of language models.
    pub generation: GenerationLimits,
    /// Decides who uses the device.
    pub arbiter: Arc<DeviceArbiter>,
}

impl OpenDevice {
    fn new(device: Device, name: String, precision: Precision) -> Self {
        let (generation, arbiter) = (GenerationLimits::default(), Arc::default());
        Self { device, name, precision, generation, arbiter }
    }

    fn cpu() -> Self {
        Self::new(Device::Cpu, "cpu".to_owned(), Precision::F32)
    }

    /// The same device with another precision.
    ///
    /// # Errors
    /// If the device does not support it.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self> {
        let refused = match precision {
            Precision::Bf16 => Unit::detect().is_none(),
            // No CPU kernel computes in f16; bf16 has the range of f32, so weights convert safely.
            Precision::F16 => true,
            Precision::Auto | Precision::F32 => false,
        };
        if self.device.is_cpu() && refused {
            bail!("unsupported precision {precision:?}: this processor has no instructions for it; use f32");
        }
        if precision != Precision::Auto {
            self.precision = precision;
        }
        Ok(self)
    }

    /// Batch limits of this device.
    pub fn batches(&self) -> Batches {
        if self.device.is_cpu() { CPU_BATCHES } else { CUDA_BATCHES }
    }
}

/// Opens the device; `Auto` falls back to the CPU and logs why.
///
/// # Errors
/// If a CUDA device was requested and cannot be opened.
pub fn open(choice: DeviceChoice) -> Result<OpenDevice> {
    match choice {
        DeviceChoice::Cpu => Ok(OpenDevice::cpu()),
        DeviceChoice::Cuda(ordinal) => cuda(ordinal),
        // Unless a GPU was requested, an unusable one must not keep the server from starting.
        DeviceChoice::Auto if cfg!(feature = "cuda") => Ok(cuda(0).unwrap_or_else(|error| {
            tracing::warn!(error.message = format!("{error:#}"), "no CUDA device, computing on the CPU");
            OpenDevice::cpu()
        })),
        DeviceChoice::Auto => Ok(OpenDevice::cpu()),
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

/// Opens a CUDA device with one stream for all threads, since one thread computes with what another
/// has copied to the device.
#[cfg(feature = "cuda")]
#[allow(unsafe_code, reason = "candle marks it unsafe to omit the events between streams")]
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

/// True if libcuda can be loaded. With the driver loaded at run time, any call to CUDA panics
/// without it.
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

/// Always true: linked at build time, the process would not have started without the driver.
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
