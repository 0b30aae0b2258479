// Attention of encoders, softmax(QKᵀ/√d)·V, over packed texts: each text by itself, without
// padding, and without a matrix of scores in memory (FlashAttention, see `online.cu`).
//
// A row has HEADS heads of HEAD values, a multiple of VECTOR; a row of `qkv` is the queries, keys
// and values of a token. A token's result is made by the same operations in the same order wherever
// its text is in the batch. Slots and tiles are laid out by `kernels::gpu::encoder_tiles`.

#define WIDTH (HEADS * HEAD)
// Queries of a longer text per block, fewer if wide heads leave no registers;
// `encoder_tiles::queries`.
#define QUERIES (HEAD <= 64 ? 128 : 64)

#if ELEMENT != 2

// Copies `rows` rows of one head by all threads of the block; those from `valid` on become zeros.
__device__ __forceinline__ void copy_rows(element* to, const element* from, int rows, int valid) {
    for (int index = threadIdx.x; index < rows * CHUNKS; index += 128) {
        const int row = index / CHUNKS, column = index % CHUNKS * VECTOR;
        const bool there = row < valid && column < HEAD;
        copy_async(to + row * ROW + column, there ? from + size_t(row) * 3 * WIDTH + column : from, there);
    }
}

// Texts of at most KEYS tokens, several to a tile of four slots of 16 rows. A slot is x, the token
// of its first row, and y = number of rows + 256 · the tile's row of its text's first key + 65536 ·
// number of keys. One block per head and tile, one warp per slot.
extern "C" __global__ void __launch_bounds__(128) attend_short(const element* qkv, const uint2* slots, element* to) {
    SHARED_MEMORY(element, memory);
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
    own.visit<false>(keys + first_key * ROW, values + first_key * ROW, count);
    __syncwarp();
    own.finish(queries + warp * 16 * ROW, to + size_t(slot.x) * WIDTH + head * HEAD, WIDTH, rows);
}

// Longer texts: a tile is x, the first token of the text, y, its number of tokens, z, the first
// query of the tile in it. One block per head and tile of QUERIES queries, a quarter of them per
// warp.
extern "C" __global__ void __launch_bounds__(128) attend_long(const element* qkv, const uint4* tiles, element* to) {
    SHARED_MEMORY(element, memory);
    const int head = blockIdx.x, warp = threadIdx.x / 32;
    const uint4 tile = tiles[blockIdx.y];
    const int length = tile.y, first = tile.z, queries = min(QUERIES, length - first);
    const element* text = qkv + size_t(tile.x) * 3 * WIDTH + head * HEAD;
    // Double buffering: two stages of keys and values, of which the second holds the queries until
    // they are in registers.
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
        if (busy) own.visit<false>(stage, stage + KEYS * ROW, min(KEYS, length - begin));
        __syncthreads();
    }
    if (!busy) return;
    element* at = to + size_t(tile.x + first + row) * WIDTH + head * HEAD;
    own.finish(memory + row * ROW, at, WIDTH, min(QUERIES / 4, queries - row));
}

#else

// f32, without tensor cores: one query of a text of `length` tokens from `start` on, by one warp. A
// lane per key for the scores, then per column of the values.
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
