// Loads and stores of elements as floats, a vector of 16 or 32 bytes at a time, and sums over a
// warp.

// Elements that a thread moves at a time: 16 bytes of 16-bit elements, the widest load. Rows begin
// on multiples of it.
#define VECTOR 8

#if ELEMENT != 2
__device__ __forceinline__ void load(const element* from, float* values) {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    const unsigned parts[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int part = 0; part < 4; part++) {
        const float2 pair = unpack(parts[part]);
        values[2 * part] = pair.x;
        values[2 * part + 1] = pair.y;
    }
}

__device__ __forceinline__ void store(element* to, const float* values) {
    *reinterpret_cast<uint4*>(to) = make_uint4(
        pack(values[0], values[1]), pack(values[2], values[3]), pack(values[4], values[5]), pack(values[6], values[7]));
}
#endif

__device__ __forceinline__ void load_floats(const float* from, float* values) {
    const float4 low = *reinterpret_cast<const float4*>(from);
    const float4 high = *reinterpret_cast<const float4*>(from + 4);
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

__device__ __forceinline__ void store_floats(float* to, const float* values) {
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    *reinterpret_cast<float4*>(to + 4) = make_float4(values[4], values[5], values[6], values[7]);
}

#if ELEMENT == 2
__device__ __forceinline__ void load(const element* from, float* values) { load_floats(from, values); }
__device__ __forceinline__ void store(element* to, const float* values) { store_floats(to, values); }
#endif

__device__ __forceinline__ void store_one(element* to, float value) {
#if ELEMENT == 2
    *to = value;
#else
    *to = element(pack(value, 0.0f));
#endif
}

// Sum over the lanes of a warp, the same bits in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}
