// Layer norm and RMS norm over the C channels of each of N rows.
//
//   y = x̂ w + b    x̂ = (x − μ) r    r = 1/√(mean (x − μ)² + eps)            RMS norm: μ = 0 and no b
//   dx = r (g − mean g − x̂ mean(g x̂))    g = dy w                           RMS norm: without mean g
//   dw = Σ dy x̂    db = Σ dy    over the rows
//
// A team of threads takes a row into its registers, PACKETS packets each, so x is read once although two sums and y
// need it. The team is a block or, for short rows such as a head's, one of a block's warps. Backward, team i of n goes
// through rows i, i + n, … and sums dw and db of its channels in registers on the way; one row a team of these sums is
// left to column_sums. Memory: forward reads x and writes y; backward reads x and dy and writes dx; the rest is small:
// w, b, two numbers a row, the teams' sums.
//
//   CENTRED 1: layer norm, 0: RMS norm; TEAM: threads of a team, 32 or blockDim; PACKETS · TEAM · WIDTH ≥ C

#include "common.cuh"

__device__ float team_sum(float x) { return TEAM == 32 ? warp_sum(x) : block_sum(x); }

__device__ long long team() { return blockIdx.x * (long long)(blockDim.x / TEAM) + threadIdx.x / TEAM; }

// Where the thread's packet k is in a row.
__device__ int channel(int k) { return (k * TEAM + threadIdx.x % TEAM) * WIDTH; }

extern "C" __global__ void norm_forward(const REAL* x, const REAL* w, const REAL* b, REAL* y, float* mean,
                                        float* inverse, long long N, int C, float eps) {
    long long n = team(), row = n * C;
    if (n >= N) return;  // a warp of the last block
    float v[PACKETS][WIDTH] = {};
    float sum = 0;
#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = channel(k);
        if (c < C) load(x + row + c, v[k]);
        for (int i = 0; i < WIDTH; i++) sum += v[k][i];
    }
    float mu = CENTRED ? team_sum(sum) / C : 0;

    float square = 0;
#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = channel(k);
        for (int i = 0; i < WIDTH; i++) square += c < C ? (v[k][i] - mu) * (v[k][i] - mu) : 0;
    }
    float r = 1 / sqrtf(team_sum(square) / C + eps);

#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = channel(k);
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
    if (threadIdx.x % TEAM == 0) {
        if (CENTRED) mean[n] = mu;
        inverse[n] = r;
    }
}

extern "C" __global__ void norm_backward(const REAL* dy, const REAL* x, const REAL* w, const float* mean,
                                         const float* inverse, REAL* dx, float* dw, float* db, long long N, int C) {
    float gain[PACKETS][WIDTH], sum_dw[PACKETS][WIDTH] = {}, sum_db[PACKETS][WIDTH] = {};
#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = channel(k);
        for (int i = 0; i < WIDTH; i++) gain[k][i] = 1;
        if (w && c < C) load(w + c, gain[k]);
    }

    long long teams = gridDim.x * (long long)(blockDim.x / TEAM);
    for (long long row = team(); row < N; row += teams) {
        float mu = CENTRED ? mean[row] : 0, r = inverse[row];
        float g[PACKETS][WIDTH] = {}, xhat[PACKETS][WIDTH] = {};
        float along_1 = 0, along_xhat = 0;
#pragma unroll
        for (int k = 0; k < PACKETS; k++) {
            int c = channel(k);
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
        along_1 = CENTRED ? team_sum(along_1) / C : 0;
        along_xhat = team_sum(along_xhat) / C;
#pragma unroll
        for (int k = 0; k < PACKETS; k++) {
            int c = channel(k);
            if (c >= C) continue;
            for (int i = 0; i < WIDTH; i++) g[k][i] = r * (g[k][i] - along_1 - xhat[k][i] * along_xhat);
            store(dx + row * C + c, g[k]);
        }
    }

#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = channel(k);
        if (c >= C) continue;
        if (dw) store(dw + team() * C + c, sum_dw[k]);
        if (db) store(db + team() * C + c, sum_db[k]);
    }
}
