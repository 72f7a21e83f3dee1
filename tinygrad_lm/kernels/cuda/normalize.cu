// Layer norm and RMS norm over the C channels of each of N rows.
//
//   y = x̂ w + b    x̂ = (x − μ) r    r = 1/√(mean (x − μ)² + eps)            RMS norm: μ = 0 and no b
//   dx = r (g − mean g − x̂ mean(g x̂))    g = dy w                           RMS norm: without mean g
//   dw = Σ dy x̂    db = Σ dy    over the rows
//
// A block takes a row into its registers, PACKETS packets a thread, so x is read once although two sums and y need it.
// Backward, a block goes through rows i, i + gridDim, … and sums dw and db of its channels in registers on the way; one
// row a block of these sums is left to column_sums. Memory: forward reads x and writes y; backward reads x and dy and
// writes dx; the rest is small: w, b, two numbers a row, the sums of 512 blocks at most.
//
//   CENTRED 1: layer norm, 0: RMS norm; PACKETS · blockDim · WIDTH ≥ C

#include "common.cuh"

extern "C" __global__ void norm_forward(const REAL* x, const REAL* w, const REAL* b, REAL* y, float* mean,
                                        float* inverse, int C, float eps) {
    long long row = blockIdx.x * (long long)C;
    float v[PACKETS][WIDTH] = {};
    float sum = 0;
#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = (k * blockDim.x + threadIdx.x) * WIDTH;
        if (c < C) load(x + row + c, v[k]);
        for (int i = 0; i < WIDTH; i++) sum += v[k][i];
    }
    float mu = CENTRED ? block_sum(sum) / C : 0;

    float square = 0;
#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = (k * blockDim.x + threadIdx.x) * WIDTH;
        for (int i = 0; i < WIDTH; i++) square += c < C ? (v[k][i] - mu) * (v[k][i] - mu) : 0;
    }
    float r = 1 / sqrtf(block_sum(square) / C + eps);

#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = (k * blockDim.x + threadIdx.x) * WIDTH;
        if (c >= C) continue;
        float gain[WIDTH], bias[WIDTH];
        if (w) load(w + c, gain);
        if (b) load(b + c, bias);
        for (int i = 0; i < WIDTH; i++) {
            v[k][i] = (v[k][i] - mu) * r;
            if (w) v[k][i] *= gain[i];
            if (b) v[k][i] += bias[i];
        }
        store(y + row + c, v[k]);
    }
    if (threadIdx.x == 0) {
        if (CENTRED) mean[blockIdx.x] = mu;
        inverse[blockIdx.x] = r;
    }
}

extern "C" __global__ void norm_backward(const REAL* dy, const REAL* x, const REAL* w, const float* mean,
                                         const float* inverse, REAL* dx, float* dw, float* db, long long N, int C) {
    float gain[PACKETS][WIDTH], sum_dw[PACKETS][WIDTH] = {}, sum_db[PACKETS][WIDTH] = {};
#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = (k * blockDim.x + threadIdx.x) * WIDTH;
        for (int i = 0; i < WIDTH; i++) gain[k][i] = 1;
        if (w && c < C) load(w + c, gain[k]);
    }

    for (long long row = blockIdx.x; row < N; row += gridDim.x) {
        float mu = CENTRED ? mean[row] : 0, r = inverse[row];
        float g[PACKETS][WIDTH] = {}, xhat[PACKETS][WIDTH] = {};
        float along_1 = 0, along_xhat = 0;
#pragma unroll
        for (int k = 0; k < PACKETS; k++) {
            int c = (k * blockDim.x + threadIdx.x) * WIDTH;
            if (c >= C) continue;
            load(dy + row * C + c, g[k]);
            load(x + row * C + c, xhat[k]);
            for (int i = 0; i < WIDTH; i++) {
                xhat[k][i] = (xhat[k][i] - mu) * r;
                sum_dw[k][i] += g[k][i] * xhat[k][i];
                sum_db[k][i] += g[k][i];
                g[k][i] *= gain[k][i];
                along_1 += g[k][i];
                along_xhat += g[k][i] * xhat[k][i];
            }
        }
        along_1 = CENTRED ? block_sum(along_1) / C : 0;
        along_xhat = block_sum(along_xhat) / C;
#pragma unroll
        for (int k = 0; k < PACKETS; k++) {
            int c = (k * blockDim.x + threadIdx.x) * WIDTH;
            if (c >= C) continue;
            for (int i = 0; i < WIDTH; i++) g[k][i] = r * (g[k][i] - along_1 - xhat[k][i] * along_xhat);
            store(dx + row * C + c, g[k]);
        }
    }

#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = (k * blockDim.x + threadIdx.x) * WIDTH;
        if (c >= C) continue;
        if (dw) store(dw + blockIdx.x * (long long)C + c, sum_dw[k]);
        if (db) store(db + blockIdx.x * (long long)C + c, sum_db[k]);
    }
}
