// What the kernels share: how numbers are moved, and how a block adds them up.
//
// Compiled for each pair of
//   REAL    what the arrays hold: float or bf16. All arithmetic is in float.
//   WIDTH   how many of them a thread moves at once: 16 bytes' worth where addresses and row lengths allow it, else 1.
//           Lengths are then multiples of WIDTH, so no kernel has a tail.

typedef unsigned long long word;

struct bf16 {  // the upper half of a float: 8 bits of exponent, 7 of fraction
    unsigned short bits;
};

__device__ float widened(float x) { return x; }
__device__ float widened(bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }

__device__ void round_to(float& y, float x) { y = x; }
__device__ void round_to(bf16& y, float x) {  // to the nearest, ties to even; every NaN is 0x7fff
#ifdef __CUDACC__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else  // in the tests' emulator
    unsigned bits = __float_as_uint(x);
    bool nan = (bits & 0x7fffffff) > 0x7f800000;
    y.bits = nan ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
#endif
}

template <class T> struct alignas(WIDTH * sizeof(T) < 16 ? WIDTH * sizeof(T) : 16) packet {
    T at[WIDTH];
};

template <class T> __device__ void load(const T* from, float (&x)[WIDTH]) {
    packet<T> p = *reinterpret_cast<const packet<T>*>(from);
    for (int i = 0; i < WIDTH; i++) x[i] = widened(p.at[i]);
}

template <class T> __device__ void store(T* to, const float (&x)[WIDTH]) {
    packet<T> p;
    for (int i = 0; i < WIDTH; i++) round_to(p.at[i], x[i]);
    *reinterpret_cast<packet<T>*>(to) = p;
}

// The first number that this thread of a one-dimensional grid has to do with.
__device__ long long first() { return (blockIdx.x * (long long)blockDim.x + threadIdx.x) * WIDTH; }

// Sum and maximum over a warp's 32 threads, and over a block of whole warps. Every thread gets the result; the order of
// the additions is always the same, and so are the bits of the sum.
template <class T> __device__ T warp_sum(T x) {
    for (int distance = 16; distance; distance /= 2) x += __shfl_xor_sync(0xffffffff, x, distance);
    return x;
}

__device__ float warp_max(float x) {
    for (int distance = 16; distance; distance /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, distance));
    return x;
}

template <class T> __device__ T block_sum(T x, T* of_warp) {
    int lane = threadIdx.x % 32;
    x = warp_sum(x);
    __syncthreads();  // others may still read what the last call left there
    if (lane == 0) of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(lane < blockDim.x / 32 ? of_warp[lane] : T(0));
}

__device__ float block_sum(float x) {
    __shared__ float of_warp[32];
    return block_sum(x, of_warp);
}

__device__ double block_sum(double x) {
    __shared__ double of_warp[32];
    return block_sum(x, of_warp);
}

__device__ float block_max(float x) {
    __shared__ float of_warp[32];
    int lane = threadIdx.x % 32;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0) of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_max(lane < blockDim.x / 32 ? of_warp[lane] : of_warp[0]);
}
