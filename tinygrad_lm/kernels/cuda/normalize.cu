// Layer norm and RMS norm over the C channels of each of N rows.
//
//   y = x̂ w + b    x̂ = (x − μ) r    r = 1/√(mean (x − μ)² + eps)            RMS norm: μ = 0 and no b
//   dx = r (g − mean g − x̂ mean(g x̂))    g = dy w                           RMS norm: without mean g
//   dw = Σ dy x̂    db = Σ dy    over the rows
//
// A team of threads takes a row into its registers, PACKETS packets each, so x is read once although two sums and y
// need it. The team is one of a block's WARPS warps, which needs no barrier, or for long rows the block. Loads beyond
// the row's end take its last packet and are left out of the sums: without a branch around them all are on the way at
// the same time. Backward, team i of n goes through rows i, i + n, … and sums dw and db of its channels in registers on
// the way; the block's teams add these up, one after the other, and a row a block of each is left to column_sums. Where
// there is a b, the layers around have biases, too: then dx is summed as well, for that of the layer whose result was
// added to x (columns.py). A gradient of x that is there already, `total`, is added to dx. Memory: forward reads x and
// writes y; backward reads x and dy, perhaps total, and writes dx; the rest is small: w, b, two numbers a row, the sums.
//
//   CENTRED 1: layer norm, 0: RMS norm; WARPS: of a block; TEAM: threads of a team, 32 or the block's
//   PACKETS · TEAM · WIDTH ≥ C; GAIN, BIAS: 1 where there is a w, a b

#include "common.cuh"

const int SUMS = GAIN + 2 * BIAS;  // that the backward pass adds up: of dw, db and dx

__device__ float team_sum(float x) { return TEAM == 32 ? warp_sum(x) : block_sum(x); }

__device__ long long team() { return blockIdx.x * (long long)(32 * WARPS / TEAM) + threadIdx.x / TEAM; }

// Where the thread's packet k is in a row, and from where it is loaded.
__device__ int channel(int k) { return (k * TEAM + threadIdx.x % TEAM) * WIDTH; }
__device__ int inside(int k, int C) { return min(channel(k), C - WIDTH); }

extern "C" __global__ void __launch_bounds__(32 * WARPS) norm_forward(const REAL* x, const REAL* w, const REAL* b,
                                                                      REAL* y, float* mean, float* inverse,
                                                                      long long N, int C, float eps) {
    long long n = team(), row = n * C;
    if (n >= N) return;  // a warp of the last block
    float v[PACKETS][WIDTH], sum = 0;
#pragma unroll
    for (int k = 0; k < PACKETS; k++) load(x + row + inside(k, C), v[k]);
#pragma unroll
    for (int k = 0; k < PACKETS; k++)
        for (int i = 0; i < WIDTH; i++) sum += channel(k) < C ? v[k][i] : 0;
    float mu = CENTRED ? team_sum(sum) / C : 0;

    float square = 0;
#pragma unroll
    for (int k = 0; k < PACKETS; k++)
        for (int i = 0; i < WIDTH; i++) square += channel(k) < C ? (v[k][i] - mu) * (v[k][i] - mu) : 0;
    float r = 1 / sqrtf(team_sum(square) / C + eps);

#pragma unroll
    for (int k = 0; k < PACKETS; k++) {
        int c = channel(k);
        if (c >= C) continue;
        float gain[WIDTH], bias[WIDTH];
        if (GAIN) load(w + c, gain);
        if (BIAS) load(b + c, bias);
        for (int i = 0; i < WIDTH; i++) {
            v[k][i] = (v[k][i] - mu) * r;
            if (GAIN) v[k][i] *= gain[i];
            if (BIAS) v[k][i] += bias[i];
        }
        store(y + row + c, v[k]);
    }
    if (threadIdx.x % TEAM == 0) {
        if (CENTRED) mean[n] = mu;
        inverse[n] = r;
    }
}

__device__ packet<REAL> packet_at(const REAL* from) { return *reinterpret_cast<const packet<REAL>*>(from); }

// What was computed from a packet is computed again where it is needed again: as floats, dy and x would take twice the
// registers in bfloat16, and three sums a channel leave no room for them.
__device__ void forget(packet<REAL>& p) {
#ifdef __CUDACC__
    if (sizeof(p) == 2) asm volatile("" : "+h"(reinterpret_cast<unsigned short&>(p)));
    for (int i = 0; i < sizeof(p) / 4; i++) asm volatile("" : "+r"(reinterpret_cast<unsigned*>(&p)[i]));
#endif
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) norm_backward(const REAL* dy, const REAL* x, const REAL* w,
                                                                       const float* mean, const float* inverse,
                                                                       const REAL* total, REAL* dx, float* sums,
                                                                       long long N, int C) {
    float sum[SUMS + 1][PACKETS][WIDTH] = {};  // one more than there are, for none is no array
    long long teams = gridDim.x * (long long)(32 * WARPS / TEAM);
    for (long long row = team(); row < N; row += teams) {
        float mu = CENTRED ? mean[row] : 0, r = inverse[row];
        packet<REAL> of_dy[PACKETS], of_x[PACKETS], before[PACKETS] = {};
        float along_1 = 0, along_xhat = 0;
        if (total)  // first of all, so that its packets are on the way with the others
#pragma unroll
            for (int k = 0; k < PACKETS; k++) before[k] = packet_at(total + row * C + inside(k, C));
#pragma unroll
        for (int k = 0; k < PACKETS; k++) {
            of_dy[k] = packet_at(dy + row * C + inside(k, C));
            of_x[k] = packet_at(x + row * C + inside(k, C));
        }
#pragma unroll
        for (int k = 0; k < PACKETS; k++) {
            float gain[WIDTH];  // near: all rows use it
            if (GAIN) load(w + inside(k, C), gain);
            for (int i = 0; i < WIDTH; i++) {
                float g = channel(k) < C ? widened(of_dy[k].at[i]) : 0, xhat = (widened(of_x[k].at[i]) - mu) * r;
                if (GAIN) sum[0][k][i] += g * xhat;
                if (BIAS) sum[GAIN][k][i] += g;
                if (GAIN) g *= gain[i];
                along_1 += g;
                along_xhat += g * xhat;
            }
        }
        along_1 = CENTRED ? team_sum(along_1) / C : 0;
        along_xhat = team_sum(along_xhat) / C;
#pragma unroll
        for (int k = 0; k < PACKETS; k++) {
            if (channel(k) >= C) continue;
            float d[WIDTH], gain[WIDTH];
            if (GAIN) load(w + channel(k), gain);
            forget(of_dy[k]), forget(of_x[k]), forget(before[k]);
            for (int i = 0; i < WIDTH; i++) {
                float g = widened(of_dy[k].at[i]), xhat = (widened(of_x[k].at[i]) - mu) * r;
                if (GAIN) g *= gain[i];
                d[i] = widened(before[k].at[i]) + r * (g - along_1 - xhat * along_xhat);
                if (BIAS) sum[GAIN + 1][k][i] += d[i];
            }
            store(dx + row * C + channel(k), d);
        }
    }

    __shared__ float of_block[SUMS + 1][TEAM == 32 ? PACKETS : 1][TEAM == 32 ? 32 : 1][WIDTH];
    int teams_here = 32 * WARPS / TEAM, here = threadIdx.x / TEAM, lane = threadIdx.x % TEAM;
    for (int turn = 0; turn < teams_here; turn++) {
#pragma unroll
        for (int k = 0; k < PACKETS * SUMS; k++) {
            float(&s)[WIDTH] = sum[k / PACKETS][k % PACKETS];
            for (int i = 0; TEAM == 32 && here == turn && i < WIDTH; i++) {
                float& all = of_block[k / PACKETS][k % PACKETS][lane][i];
                s[i] = all = turn ? all + s[i] : s[i];
            }
            int c = channel(k % PACKETS);
            if (here == turn && turn == teams_here - 1 && c < C)
                store(sums + (k / PACKETS * gridDim.x + blockIdx.x) * (long long)C + c, s);
        }
        __syncthreads();
    }
}
