"""Compiles our CUDA kernels with NVRTC, as the server does at run time, for shapes of models and a Hopper GPU.

`compile_kernels.py LIBRARIES SOURCES`: the folder of libnvrtc, and that of the .cu files. Needs no GPU.
"""

import ctypes
import os
import sys
from pathlib import Path

libraries, sources = map(Path, sys.argv[1:])
if "LD_LIBRARY_PATH" not in os.environ or str(libraries) not in os.environ["LD_LIBRARY_PATH"].split(":"):
    # NVRTC looks for its own parts there, and the loader reads the variable once.
    os.environ["LD_LIBRARY_PATH"] = f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    os.execv(sys.executable, [sys.executable, *sys.argv])
nvrtc = ctypes.CDLL(str(libraries / "libnvrtc.so.13"))


def compile_source(source: str, options: list[str]) -> None:
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), None, 0, None, None)
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    code = nvrtc.nvrtcCompileProgram(program, len(options), array)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if code != 0:
        sys.exit(f"compile_kernels: {' '.join(options)}: {log.value.decode()}")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def compile_files(names: list[str], **defines: object) -> None:
    source = "".join((sources / f"{name}.cu").read_text() for name in ["ptx", "element", *names])
    compile_source(source, ["--gpu-architecture=sm_90", "--std=c++17", *(f"-D{k}={v}" for k, v in defines.items())])


count = 0
for kind in range(3):
    for activation, (heads, head) in enumerate([(12, 64), (16, 64), (12, 32), (8, 128)]):
        compile_files(["activation", "layers"], ELEMENT=kind, ACTIVATION=activation, WIDTH=heads * head)
        compile_files(["online", "attention"], ELEMENT=kind, HEADS=heads, HEAD=head)
        count += 2
    # Qwen2.5 0.5B and 7B, Qwen3, Llama 3, Gemma 3, Phi 3.
    for kv_heads, group, head in [(2, 7, 64), (4, 7, 128), (8, 4, 128), (8, 8, 128), (4, 2, 256), (32, 1, 96)]:
        compile_files(["activation", "online", "decoder"], ELEMENT=kind, ACTIVATION=3, KV_HEADS=kv_heads, GROUP=group, HEAD=head,
                      SCORE_SCALE="0.125f")
        count += 1
    for bits, second in [(0, 0), (4, 0), (4, 1), (8, 0), (8, 1), (8, 2)]:
        compile_files(["activation", "product"], ELEMENT=kind, ACTIVATION=3, BITS=bits, SECOND=second, OFFSET="8.0f")
        count += 1
print(f"check-cuda: NVRTC compiles our kernels, {count} times", file=sys.stderr)
