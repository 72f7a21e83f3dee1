// What warps do with matrices of bf16: how fragments are read, rounded and written, and copies to shared memory. The
// products themselves are matrices_warp.cuh's or, with WGMMA, matrices_warpgroup.cuh's, which share the fragments and
// the names. The tests' emulator has stand-ins of what is in assembly.
//
// Lane 4 g + t of a warp holds, of A (16 × 16), rows g and g + 8 at columns 2t, 2t + 1, 2t + 8, 2t + 9; of B (16 × 8),
// column g at rows 2t, 2t + 1 and 2t + 8, 2t + 9; of C (16 × 8), rows g and g + 8 at columns 2t, 2t + 1.
// Two neighbouring C, rounded, are an A: so one product's result goes into the next without leaving the registers.

#ifdef __CUDACC__
__device__ unsigned packed(float low, float high) {  // two bf16, to the nearest
    unsigned x;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
    return x;
}

// Bytes from global to shared memory, or zeros: under way until this thread waits, and for others until a barrier.
__device__ void copy_later_16(void* to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(unsigned(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 16 : 0) : "memory");
}

__device__ void copy_later_8(void* to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
                 :: "r"(unsigned(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 8 : 0) : "memory");
}

__device__ void copy_later_4(void* to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"(unsigned(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 4 : 0) : "memory");
}

__device__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#endif

// 16 rows of x from `start` on as A fragments, D columns; beyond `end` zeros.
typedef unsigned fragments[D / 16][4];
__device__ void fetch(fragments& a, const bf16* x, long long stride, int start, int end) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int k = 0; k < D / 16; k++)
        for (int i = 0; i < 4; i++) {
            int row = start + g + i % 2 * 8, column = k * 16 + i / 2 * 8 + 2 * t;
            a[k][i] = row < end ? *reinterpret_cast<const unsigned*>(x + row * stride + column) : 0;
        }
}

// 16 rows of c, each multiplied by its factor, to x from `start` on, as far as `end`.
__device__ void put(bf16* x, long long stride, int start, int end, const float (&c)[D / 8][4], float upper,
                    float lower) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int n = 0; n < D / 8; n++) {
        bf16* to = x + (start + g) * stride + n * 8 + 2 * t;
        if (start + g < end) *reinterpret_cast<unsigned*>(to) = packed(c[n][0] * upper, c[n][1] * upper);
        if (start + g + 8 < end)
            *reinterpret_cast<unsigned*>(to + 8 * stride) = packed(c[n][2] * lower, c[n][3] * lower);
    }
}

// D sums over a block's rows before `end`, each multiplied by the factor; a warp has those of c, from `start` on. The
// order of the additions is the same in every run.
template <int W, int M>
__device__ void put_column_sums(float* to, int start, int end, const float (&c)[M][D / 8][4], float factor,
                                float (&of_warp)[W][D]) {
    int lane = threadIdx.x % 32, g = lane / 4;
    __syncthreads();  // others may still read what the last call left there
#pragma unroll
    for (int from = 0; from < D; from += 64) {
        float x[8][2] = {};  // of this lane's rows, at columns 8 n + 2t, 8 n + 2t + 1
#pragma unroll
        for (int n = 0; n < 8 && from + 8 * n < D; n++)
            for (int i = 0; i < 4 * M; i++)
                if (start + i / 2 * 8 + g < end) x[n][i % 2] += c[i / 4][from / 8 + n][i % 4];
#pragma unroll
        for (int half = 4; half; half /= 2)  // two lanes exchange halves of what they have, so that n = g is left
            for (int i = 0; i < 2 * half; i++) {
                float &low = x[i / 2][i % 2], high = x[i / 2 + half][i % 2];
                float other = __shfl_xor_sync(0xffffffff, g & half ? low : high, 4 * half);
                low = (g & half ? high : low) + other;
            }
        for (int i = 0; i < 2; i++)
            if (from + 2 * lane < D) of_warp[threadIdx.x / 32][from + 2 * lane + i] = x[0][i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < D; i += 32 * W) {
        float sum = 0;
        for (int warp = 0; warp < W; warp++) sum += of_warp[warp][i];
        to[i] = sum * factor;
    }
}

// Sum and maximum over the four lanes that share a row of C.
__device__ float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

__device__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ float product(unsigned a, unsigned b) {  // of two pairs of bf16
    return __uint_as_float(a << 16) * __uint_as_float(b << 16) +
           __uint_as_float(a & 0xffff0000) * __uint_as_float(b & 0xffff0000);
}
