// softmax(QKᵀ/√d)·V of packed texts, each text on its own, without padding and without a matrix of scores in memory.
//
// Online softmax as in FlashAttention-2, Dao 2023 (arXiv:2307.08691), on the tensor cores' 16 × 8 × 16 products. HEADS
// heads of HEAD values, a multiple of VECTOR, stand side by side in a row; a row of `qkv` is the queries, keys and
// values of a token. A token's result is made by the same operations in the same order wherever its text stands.

#define WIDTH (HEADS * HEAD)
#define SCALE (1.4426950408889634f * rsqrtf(float(HEAD)))
// Keys that are visited at a time; a text of no more is short.
#define KEYS 64
// Queries of a longer text that a block takes, fewer where wide heads leave no registers; see `kernels::tiles::queries`.
#define QUERIES (HEAD <= 64 ? 128 : 64)
#define NEVER __int_as_float(0xff800000)

__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#if ELEMENT != 2

// Columns of a row in shared memory: whole products, and an odd number of 16 bytes so that eight rows fall into
// different banks.
#define PADDED ((HEAD + 15) / 16 * 16)
#define ROW (PADDED + VECTOR)
#define CHUNKS (PADDED / VECTOR)

__device__ __forceinline__ unsigned shared_address(const void* at) { return unsigned(__cvta_generic_to_shared(at)); }

// One vector to shared memory in the background; zeros where it is not valid.
__device__ __forceinline__ void copy_async(element* to, const element* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 16 : 0));
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;"); }

template <int PENDING>
__device__ __forceinline__ void arrived() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// `rows` rows of one head, of which the first `valid` are there, by all threads of the block.
__device__ __forceinline__ void copy_rows(element* to, const element* from, int rows, int valid) {
    for (int index = threadIdx.x; index < rows * CHUNKS; index += 128) {
        const int row = index / CHUNKS, column = index % CHUNKS * VECTOR;
        const bool there = row < valid && column < HEAD;
        copy_async(to + row * ROW + column, there ? from + size_t(row) * 3 * WIDTH + column : from, there);
    }
}

// Four 8 × 8 matrices, the rows of matrix m at the addresses that lanes 8m … 8m + 7 give.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const element* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(at)));
}

__device__ __forceinline__ void load_transposed(unsigned (&to)[4], const element* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(at)));
}

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

// What a warp has of BLOCKS blocks of 16 queries. A lane holds two rows of each, see the layout of mma.m16n8k16.
template <int BLOCKS>
struct Queries {
    unsigned query[BLOCKS][PADDED / 16][4];
    float out[BLOCKS][PADDED / 8][4];
    float largest[BLOCKS][2];
    float total[BLOCKS][2];

    __device__ __forceinline__ void begin(const element* rows) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
            largest[block][0] = largest[block][1] = NEVER;
            total[block][0] = total[block][1] = 0;
#pragma unroll
            for (int part = 0; part < PADDED / 8; part++)
#pragma unroll
                for (int i = 0; i < 4; i++) out[block][part][i] = 0;
            const element* at = rows + (block * 16 + lane % 16) * ROW + lane / 16 * 8;
#pragma unroll
            for (int part = 0; part < PADDED / 16; part++) load_matrices(query[block][part], at + part * 16);
        }
    }

    // Attends to `count` keys, 1 to KEYS. Rows up to the next multiple of 16 are read and must be finite.
    __device__ __forceinline__ void visit(const element* keys, const element* values, int count) {
        const int lane = threadIdx.x % 32;
        float score[BLOCKS][KEYS / 8][4];
        const element* key = keys + (lane / 16 * 8 + lane % 8) * ROW + lane / 8 % 2 * 8;
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            if (step * 16 >= count) break;
#pragma unroll
            for (int block = 0; block < BLOCKS; block++)
#pragma unroll
                for (int i = 0; i < 4; i++) score[block][2 * step][i] = score[block][2 * step + 1][i] = 0;
#pragma unroll
            for (int part = 0; part < PADDED / 16; part++) {
                unsigned b[4];
                load_matrices(b, key + step * 16 * ROW + part * 16);
#pragma unroll
                for (int block = 0; block < BLOCKS; block++) {
                    multiply(score[block][2 * step], query[block][part], b[0], b[1]);
                    multiply(score[block][2 * step + 1], query[block][part], b[2], b[3]);
                }
            }
            if (step * 16 + 16 > count) {
#pragma unroll
                for (int block = 0; block < BLOCKS; block++)
#pragma unroll
                    for (int half = 0; half < 2; half++)
#pragma unroll
                        for (int i = 0; i < 4; i++) {
                            const int column = step * 16 + half * 8 + lane % 4 * 2 + i % 2;
                            if (column >= count) score[block][2 * step + half][i] = NEVER;
                        }
            }
        }
        float offset[BLOCKS][2];
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
#pragma unroll
            for (int row = 0; row < 2; row++) {
                float most = largest[block][row];
#pragma unroll
                for (int step = 0; step < KEYS / 16; step++) {
                    if (step * 16 >= count) break;
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const float* pair = score[block][2 * step + half] + 2 * row;
                        most = fmaxf(most, fmaxf(pair[0], pair[1]));
                    }
                }
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                const float shrink = power_of_two((largest[block][row] - most) * SCALE);
                largest[block][row] = most;
                offset[block][row] = most * SCALE;
                total[block][row] *= shrink;
#pragma unroll
                for (int part = 0; part < PADDED / 8; part++) {
                    out[block][part][2 * row] *= shrink;
                    out[block][part][2 * row + 1] *= shrink;
                }
            }
        }
        const element* value = values + (lane / 8 % 2 * 8 + lane % 8) * ROW + lane / 16 * 8;
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            if (step * 16 >= count) break;
            unsigned weight[BLOCKS][4];
#pragma unroll
            for (int block = 0; block < BLOCKS; block++)
#pragma unroll
                for (int half = 0; half < 2; half++)
#pragma unroll
                    for (int row = 0; row < 2; row++) {
                        const float* pair = score[block][2 * step + half] + 2 * row;
                        const float first = power_of_two(fmaf(pair[0], SCALE, -offset[block][row]));
                        const float second = power_of_two(fmaf(pair[1], SCALE, -offset[block][row]));
                        total[block][row] += first + second;
                        weight[block][2 * half + row] = pack(first, second);
                    }
#pragma unroll
            for (int part = 0; part < PADDED / 16; part++) {
                unsigned b[4];
                load_transposed(b, value + step * 16 * ROW + part * 16);
#pragma unroll
                for (int block = 0; block < BLOCKS; block++) {
                    multiply(out[block][2 * part], weight[block], b[0], b[1]);
                    multiply(out[block][2 * part + 1], weight[block], b[2], b[3]);
                }
            }
        }
    }

    // Writes the first `count` rows, by way of `rows` of shared memory that no other warp uses.
    __device__ __forceinline__ void finish(element* rows, element* to, int count) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int block = 0; block < BLOCKS; block++)
#pragma unroll
            for (int row = 0; row < 2; row++) {
                float sum = total[block][row];
                sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                const float inverse = 1.0f / sum;
                element* at = rows + (block * 16 + row * 8 + lane / 4) * ROW + lane % 4 * 2;
#pragma unroll
                for (int part = 0; part < PADDED / 8; part++) {
                    const float* pair = out[block][part] + 2 * row;
                    *reinterpret_cast<unsigned*>(at + part * 8) = pack(pair[0] * inverse, pair[1] * inverse);
                }
            }
        __syncwarp();
        for (int index = lane; index < count * (HEAD / VECTOR); index += 32) {
            const int row = index / (HEAD / VECTOR), column = index % (HEAD / VECTOR) * VECTOR;
            *reinterpret_cast<uint4*>(to + size_t(row) * WIDTH + column) =
                *reinterpret_cast<const uint4*>(rows + row * ROW + column);
        }
    }
};

// Texts of at most KEYS tokens, several to a tile of four slots of 16 rows. A slot of the tile is x, the token of its
// first row, and y, its rows + 256 · the tile's row of its text's first key + 65536 · the keys. A block for each head
// and tile, a warp for each slot.
extern "C" __global__ void __launch_bounds__(128) attend_short(const element* qkv, const uint2* slots, element* to) {
    extern __shared__ __align__(16) element memory[];
    element *queries = memory, *keys = memory + 64 * ROW, *values = memory + 128 * ROW;
    const int head = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint2 slot = slots[blockIdx.y * 4 + warp];
    const int rows = slot.y % 256, first_key = slot.y / 256 % 256, count = slot.y / 65536;
    const element* from = qkv + size_t(slot.x) * 3 * WIDTH + head * HEAD;
#pragma unroll
    for (int index = lane; index < 16 * CHUNKS; index += 32) {
        const int row = index / CHUNKS, column = index % CHUNKS * VECTOR;
        const bool there = row < rows && column < HEAD;
        const element* at = there ? from + size_t(row) * 3 * WIDTH + column : qkv;
        const int place = (warp * 16 + row) * ROW + column;
        copy_async(queries + place, at, there);
        copy_async(keys + place, there ? at + WIDTH : qkv, there);
        copy_async(values + place, there ? at + 2 * WIDTH : qkv, there);
    }
    commit();
    arrived<0>();
    __syncthreads();
    if (rows == 0) return;
    Queries<1> own;
    own.begin(queries + warp * 16 * ROW);
    own.visit(keys + first_key * ROW, values + first_key * ROW, count);
    __syncwarp();
    own.finish(queries + warp * 16 * ROW, to + size_t(slot.x) * WIDTH + head * HEAD, rows);
}

// Longer texts: tile x is the text's first token, y its tokens, z the tile's first query in it. A block for each head
// and tile of QUERIES queries, a quarter of them for each warp.
extern "C" __global__ void __launch_bounds__(128) attend_long(const element* qkv, const uint4* tiles, element* to) {
    extern __shared__ __align__(16) element memory[];
    const int head = blockIdx.x, warp = threadIdx.x / 32;
    const uint4 tile = tiles[blockIdx.y];
    const int length = tile.y, first = tile.z, queries = min(QUERIES, length - first);
    const element* text = qkv + size_t(tile.x) * 3 * WIDTH + head * HEAD;
    // Two stages of keys and values; the second holds the queries until they are in registers.
    element* second = memory + 128 * ROW;
    auto fetch = [&](int begin, element* stage) {
        const element* from = text + size_t(begin) * 3 * WIDTH;
        copy_rows(stage, from + WIDTH, KEYS, length - begin);
        copy_rows(stage + KEYS * ROW, from + 2 * WIDTH, KEYS, length - begin);
        commit();
    };
    copy_rows(second, text + size_t(first) * 3 * WIDTH, QUERIES, queries);
    commit();
    fetch(0, memory);
    arrived<1>();
    __syncthreads();
    const int row = warp * (QUERIES / 4);
    Queries<QUERIES / 64> own;
    own.begin(second + row * ROW);
    __syncthreads();
    const bool busy = row < queries;
    for (int begin = 0, turn = 0; begin < length; begin += KEYS, turn ^= 1) {
        if (begin + KEYS < length) {
            fetch(begin + KEYS, memory + (turn ^ 1) * 128 * ROW);
            arrived<1>();
        } else {
            arrived<0>();
        }
        __syncthreads();
        const element* stage = memory + turn * 128 * ROW;
        if (busy) own.visit(stage, stage + KEYS * ROW, min(KEYS, length - begin));
        __syncthreads();
    }
    if (!busy) return;
    element* at = to + size_t(tile.x + first + row) * WIDTH + head * HEAD;
    own.finish(memory + row * ROW, at, min(QUERIES / 4, queries - row));
}

#else

// One query of the text of `length` tokens from `start` on, by one warp: a lane for each key, then for each value.
__device__ void attend(const element* qkv, unsigned start, int length, unsigned token, int head, element* to) {
    const int lane = threadIdx.x % 32;
    const element* query = qkv + size_t(token) * 3 * WIDTH + head * HEAD;
    const element* text = qkv + size_t(start) * 3 * WIDTH + head * HEAD;
    float out[(HEAD + 31) / 32] = {}, largest = NEVER, total = 0;
    for (int begin = 0; begin < length; begin += 32) {
        float score = NEVER;
        if (begin + lane < length) {
            const element* key = text + size_t(begin + lane) * 3 * WIDTH + WIDTH;
            score = 0;
            for (int i = 0; i < HEAD; i++) score = fmaf(query[i], key[i], score);
        }
        float most = fmaxf(largest, score);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2)
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, distance));
        const float shrink = exp2f((largest - most) * SCALE);
        const float weight = exp2f((score - most) * SCALE);
        largest = most;
        total = total * shrink + weight;
#pragma unroll
        for (int part = 0; part < (HEAD + 31) / 32; part++) out[part] *= shrink;
        const int keys = min(32, length - begin);
        for (int key = 0; key < keys; key++) {
            const float share = __shfl_sync(0xffffffffu, weight, key);
            const element* value = text + size_t(begin + key) * 3 * WIDTH + 2 * WIDTH;
#pragma unroll
            for (int part = 0; part < (HEAD + 31) / 32; part++)
                if (part * 32 + lane < HEAD) out[part] = fmaf(share, value[part * 32 + lane], out[part]);
        }
    }
    total = warp_sum(total);
#pragma unroll
    for (int part = 0; part < (HEAD + 31) / 32; part++)
        if (part * 32 + lane < HEAD)
            to[size_t(token) * WIDTH + head * HEAD + part * 32 + lane] = out[part] / total;
}

extern "C" __global__ void __launch_bounds__(128) attend_short(const element* qkv, const uint2* slots, element* to) {
    const int warp = threadIdx.x / 32;
    const uint2 slot = slots[blockIdx.y * 4 + warp];
    const int rows = slot.y % 256, first_key = slot.y / 256 % 256, count = slot.y / 65536;
    const unsigned start = slot.x - (warp * 16 - first_key);
    for (int row = 0; row < rows; row++) attend(qkv, start, count, slot.x + row, blockIdx.x, to);
}

extern "C" __global__ void __launch_bounds__(128) attend_long(const element* qkv, const uint4* tiles, element* to) {
    const uint4 tile = tiles[blockIdx.y];
    const unsigned last = min(tile.z + QUERIES, tile.y);
    for (unsigned row = tile.z + threadIdx.x / 32; row < last; row += 4)
        attend(qkv, tile.x, tile.y, tile.x + row, blockIdx.x, to);
}

#endif
