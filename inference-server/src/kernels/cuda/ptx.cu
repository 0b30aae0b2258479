// The element type of weights and activations, and all inline PTX: conversions, asynchronous copies
// (cp.async), tensor cores (ldmatrix, mma). It comes before every other source, so that NVRTC needs
// no header.
//
// ELEMENT is 0 for bf16, 1 for f16 and 2 for f32, as in `kernels::gpu::Element`. Tests on machines
// without a GPU put `tests/inference/emulated/gpu.h` in place of this file.

#if ELEMENT == 2
typedef float element;
#else
typedef unsigned short element;
#endif

// Dynamic shared memory, as much as the launch asks for.
#define SHARED_MEMORY(type, name) extern __shared__ __align__(16) type name[]

#if ELEMENT != 2
// Rounds two floats to elements in one word, the first in the lower half.
__device__ __forceinline__ unsigned pack(float first, float second) {
    unsigned word;
#if ELEMENT == 0
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
#endif
    return word;
}

// The two elements of a word as floats.
__device__ __forceinline__ float2 unpack(unsigned word) {
    float2 values;
#if ELEMENT == 0
    values.x = __uint_as_float(word << 16);
    values.y = __uint_as_float(word & 0xffff0000u);
#else
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
        : "=f"(values.x), "=f"(values.y)
        : "r"(word));
#endif
    return values;
}
#endif

// 2^x and 1/x to about 2^-22, without a subroutine.
__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#if ELEMENT != 2
__device__ __forceinline__ unsigned shared_address(const void* at) { return unsigned(__cvta_generic_to_shared(at)); }

// Copies 16 bytes to shared memory asynchronously, or zeros if not `valid`.
__device__ __forceinline__ void copy_async(element* to, const element* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 16 : 0));
}

// Closes a group of asynchronous copies.
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;"); }

// Waits until all but the last PENDING groups have arrived.
template <int PENDING>
__device__ __forceinline__ void arrived() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Loads four 8 × 8 matrices, the rows of matrix m at the addresses of lanes 8m … 8m + 7.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const element* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(at)));
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_transposed(unsigned (&to)[4], const element* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(at)));
}

// sum += a · b by a tensor core: 16 × 16 times 16 × 8, in the fragment layout of mma.m16n8k16 (PTX
// ISA, "Matrix Fragments for mma.m16n8k16").
__device__ __forceinline__ void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned low, unsigned high) {
#if ELEMENT == 0
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
#endif
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(low), "r"(high));
}
#endif
