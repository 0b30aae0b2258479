// An emulated GPU for tests: the functions of `ptx.cu` and the names of CUDA C++, on the CPU.
//
// The threads of a block are coroutines that switch at barriers and at exchanges between the lanes
// of a warp; blocks run one after the other. Products of tensor cores add their sixteen terms in
// order, which the hardware need not.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static
#define SHARED_MEMORY(type, name) type* name = reinterpret_cast<type*>(emulated::shared_memory)

struct uint2 { unsigned x, y; };
struct uint3 { unsigned x, y, z; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class To, class From>
inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __int_as_float(unsigned bits) { return bits_as<float>(bits); }
inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
inline unsigned __float_as_uint(float value) { return bits_as<unsigned>(value); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <class A, class B>
inline std::common_type_t<A, B> min(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(a) < C(b) ? C(a) : C(b);
}
template <class A, class B>
inline std::common_type_t<A, B> max(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(a) > C(b) ? C(a) : C(b);
}

namespace emulated {

constexpr size_t STACK = 256 << 10;

#if defined(__x86_64__)
extern "C" __attribute__((visibility("hidden"))) void emulated_switch(void** save, void* load);
asm(R"(
.text
.hidden emulated_switch
.globl emulated_switch
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#endif

struct Barrier {
    unsigned arrived = 0, turn = 0, alive = 0;
};

struct Thread {
    std::vector<char> stack;
#if defined(__x86_64__)
    void* at = nullptr;
#else
    ucontext_t at;
#endif
    bool done = false;
    unsigned exchanges = 0;
    // The barrier that the thread waits at, and that barrier's turn when it arrived.
    const Barrier* at_barrier = nullptr;
    unsigned turn = 0;
};

struct Warp {
    Barrier barrier;
    float numbers[2][32][12];
    const void* places[2][32];
};

static std::vector<Thread> threads;
static std::vector<Warp> warps;
static Barrier block;
static Thread outside;
static unsigned current;
static uint3 block_index, grid_size, block_size;
static char* shared_memory;
static void (*body)(void**);
static void** arguments;

inline void change(Thread& from, Thread& to) {
#if defined(__x86_64__)
    emulated_switch(&from.at, to.at);
#else
    swapcontext(&from.at, &to.at);
#endif
}

inline void give_way() { change(threads[current], outside); }

inline void pass(Barrier& barrier) {
    if (barrier.arrived > 0 && barrier.arrived >= barrier.alive) {
        barrier.arrived = 0;
        barrier.turn++;
    }
}

inline void wait(Barrier& barrier) {
    Thread& own = threads[current];
    own.at_barrier = &barrier, own.turn = barrier.turn;
    barrier.arrived++;
    pass(barrier);
    if (barrier.turn == own.turn) give_way();
}

// Runs the threads of a warp until all of them are done or wait.
inline void run_warp(unsigned first, unsigned end) {
    for (bool any = true; any;) {
        any = false;
        for (current = first; current < end; current++) {
            Thread& thread = threads[current];
            if (thread.done || (thread.at_barrier && thread.at_barrier->turn == thread.turn)) continue;
            any = true;
            change(outside, thread);
        }
    }
}

inline void enter() {
    body(arguments);
    Warp& warp = warps[current / 32];
    threads[current].done = true;
    warp.barrier.alive--;
    pass(warp.barrier);
    block.alive--;
    pass(block);
    give_way();
}

inline void prepare(Thread& thread) {
    thread.stack.resize(STACK);
    thread.done = false;
    thread.at_barrier = nullptr;
#if defined(__x86_64__)
    auto top = reinterpret_cast<uintptr_t>(thread.stack.data() + STACK) & ~uintptr_t(15);
    auto* words = reinterpret_cast<void**>(top);
    words[-1] = nullptr;
    words[-2] = reinterpret_cast<void*>(&enter);
    thread.at = words - 8;
#else
    getcontext(&thread.at);
    thread.at.uc_stack.ss_sp = thread.stack.data();
    thread.at.uc_stack.ss_size = STACK;
    thread.at.uc_link = nullptr;
    makecontext(&thread.at, enter, 0);
#endif
}

// Runs a kernel, block by block; shared memory is filled with NaN before each.
inline void launch(void (*kernel)(void**), void** given, const unsigned* grid, unsigned count, unsigned shared) {
    body = kernel, arguments = given;
    grid_size = {grid[0], grid[1], grid[2]}, block_size = {count, 1, 1};
    if (threads.size() < count) threads.resize(count);
    warps.resize((count + 31) / 32);
    std::vector<char> memory(shared + 16);
    shared_memory = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory.data()) + 15) & ~uintptr_t(15));
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                block_index = {x, y, z};
                std::fill(memory.begin(), memory.end(), char(0xff));
                for (auto& warp : warps) warp.barrier = {0, 0, 0};
                block = {0, 0, count};
                for (unsigned index = 0; index < count; index++) {
                    prepare(threads[index]);
                    warps[index / 32].barrier.alive++;
                }
                while (block.alive > 0)
                    for (unsigned first = 0; first < count; first += 32) run_warp(first, std::min(first + 32, count));
            }
}

inline unsigned lane() { return current % 32; }
inline Warp& warp() { return warps[current / 32]; }
// Two buffers in turns: when a lane writes to one, all lanes have read its earlier contents.
inline unsigned buffer() { return threads[current].exchanges++ % 2; }

inline float element_value(unsigned bits) {
#if ELEMENT == 1
    return float(bits_as<_Float16>(uint16_t(bits)));
#else
    return bits_as<float>(bits << 16);
#endif
}

inline unsigned element_bits(float value) {
#if ELEMENT == 1
    return bits_as<uint16_t>(_Float16(value));
#else
    const unsigned bits = bits_as<unsigned>(value);
    if (std::isnan(value)) return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
#endif
}

template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void** given, std::index_sequence<I...>) {
    kernel(*reinterpret_cast<std::remove_const_t<A>*>(given[I])...);
}
template <class... A>
inline void call(void (*kernel)(A...), void** given) {
    call(kernel, given, std::index_sequence_for<A...>());
}

}  // namespace emulated

#define threadIdx (uint3{emulated::current, 0, 0})
#define blockIdx emulated::block_index
#define gridDim emulated::grid_size
#define blockDim emulated::block_size
inline void __syncthreads() { emulated::wait(emulated::block); }
inline void __syncwarp() { emulated::wait(emulated::warp().barrier); }

inline float __shfl_sync(unsigned, float value, int from) {
    const unsigned buffer = emulated::buffer();
    emulated::warp().numbers[buffer][emulated::lane()][0] = value;
    __syncwarp();
    return emulated::warp().numbers[buffer][from][0];
}
inline float __shfl_xor_sync(unsigned mask, float value, int distance) {
    return __shfl_sync(mask, value, int(emulated::lane()) ^ distance);
}

inline float power_of_two(float x) { return std::exp2(x); }
inline float reciprocal(float x) { return 1.0f / x; }

#if ELEMENT == 2
typedef float element;
#else
typedef unsigned short element;

inline unsigned pack(float first, float second) {
    return emulated::element_bits(first) | emulated::element_bits(second) << 16;
}
inline float2 unpack(unsigned word) {
    return {emulated::element_value(word & 0xffff), emulated::element_value(word >> 16)};
}
inline void copy_async(element* to, const element* from, bool valid) {
    if (valid) std::memcpy(to, from, 16);
    else std::memset(to, 0, 16);
}
inline void commit() {}
template <int PENDING>
inline void arrived() {}

// A row of an 8 × 8 matrix, whose address lane 8 · matrix + row gave.
inline const element* row_of(unsigned buffer, unsigned matrix, unsigned row) {
    return static_cast<const element*>(emulated::warp().places[buffer][8 * matrix + row]);
}
inline void load_matrices(unsigned (&to)[4], const element* at) {
    const unsigned buffer = emulated::buffer(), lane = emulated::lane();
    emulated::warp().places[buffer][lane] = at;
    __syncwarp();
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        const element* row = row_of(buffer, matrix, lane / 4) + lane % 4 * 2;
        to[matrix] = row[0] | unsigned(row[1]) << 16;
    }
}
inline void load_transposed(unsigned (&to)[4], const element* at) {
    const unsigned buffer = emulated::buffer(), lane = emulated::lane();
    emulated::warp().places[buffer][lane] = at;
    __syncwarp();
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        const unsigned row = lane % 4 * 2, column = lane / 4;
        to[matrix] = row_of(buffer, matrix, row)[column] | unsigned(row_of(buffer, matrix, row + 1)[column]) << 16;
    }
}
// mma.m16n8k16: a lane holds four words of the first matrix and two of the second, in the layout of
// the PTX ISA.
inline void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned low, unsigned high) {
    const unsigned buffer = emulated::buffer(), lane = emulated::lane();
    auto& numbers = emulated::warp().numbers[buffer];
    const unsigned words[6] = {a[0], a[1], a[2], a[3], low, high};
    for (unsigned word = 0; word < 6; word++) {
        const float2 pair = unpack(words[word]);
        numbers[lane][2 * word] = pair.x;
        numbers[lane][2 * word + 1] = pair.y;
    }
    __syncwarp();
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = lane / 4, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            const float x = numbers[row * 4 + k % 8 / 2][2 * (i / 2 + k / 8 * 2) + k % 2];
            const float y = numbers[column * 4 + k % 8 / 2][8 + k / 8 * 2 + k % 2];
            sum[i] += x * y;
        }
    }
}
#endif

// Defines a C function that runs a kernel, given the addresses of its arguments.
#define ENTRY(name)                                                                                                   \
    extern "C" void run_##name(void** given, const unsigned* grid, unsigned threads, unsigned shared) {               \
        emulated::launch([](void** at) { emulated::call(name, at); }, given, grid, threads, shared);                  \
    }
