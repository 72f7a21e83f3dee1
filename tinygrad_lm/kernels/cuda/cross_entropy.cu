// Softmax and cross-entropy over a vocabulary of V, without writing the probabilities P.
//
//   y = Σ nll / N    nll = log Σ exp(x − max) − (x[target] − max) = −log P[target]    dx = dy (P − [target]) / N
//
// N is the number of positions whose target is not `ignored`, at least 1. A block takes a row of V logits and reads it
// once: each thread keeps the largest it has seen and Σ exp(x − largest), corrected whenever a larger one comes
// (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"), and the block puts these together. Kept
// are two numbers a row. Backward reads the logits again and writes dx, which may lie in the logits' place.
// Memory: forward reads x, backward reads x and writes dx; at once, x is read once if a row fits into shared memory.
// Places are 64-bit: 65,536 rows of 50,304 pass 2³¹. A target outside the vocabulary gives NaN, never a foreign address.
//
//   KEPT: 1 where losses_and_gradients has V logits of shared memory

#include "common.cuh"

const float LOWEST = -3.4028235e38f;  // not −∞, for −∞ − (−∞) is NaN
const int PACKETS = 4;  // that a thread has on the way at the same time

__device__ float power(float x) { return exp2f(1.44269504f * x); }  // eˣ in two instructions

// Of the block's row: its largest logit and Σ exp(x − largest). With `keep` it is copied on the way.
__device__ void row_statistics(const REAL* row, REAL* copy, bool keep, int V, float& largest, float& total) {
    float top = LOWEST, sum = 0;
    int step = blockDim.x * WIDTH;
    for (int start = threadIdx.x * WIDTH; start < V; start += PACKETS * step) {
        packet<REAL> p[PACKETS];  // no branch around a load: beyond the row it takes the last packet, as −∞
        float v[PACKETS][WIDTH], higher = top;
        for (int k = 0; k < PACKETS; k++)
            p[k] = *reinterpret_cast<const packet<REAL>*>(row + min(start + k * step, V - WIDTH));
        for (int k = 0; k < PACKETS; k++) {
            int c = start + k * step;
            if (keep && c < V) *reinterpret_cast<packet<REAL>*>(copy + c) = p[k];
            for (int i = 0; i < WIDTH; i++) {
                v[k][i] = c < V ? widened(p[k].at[i]) : __uint_as_float(0xff800000);
                higher = fmaxf(higher, v[k][i]);
            }
        }
        sum *= power(top - higher);
        for (int k = 0; k < PACKETS; k++)
            for (int i = 0; i < WIDTH; i++) sum += power(v[k][i] - higher);
        top = higher;
    }
    largest = block_max(top);
    total = block_sum(sum * power(top - largest));
}

__device__ float loss_of(const REAL* row, int target, float largest, float total, int V, int ignored) {
    float x_target = target >= 0 && target < V ? widened(row[target]) : __uint_as_float(0x7fffffff);
    return target == ignored ? 0 : logf(total) - (x_target - largest);
}

// dx = part (P − [target]), which may lie in the place of x.
__device__ void row_gradient(const REAL* x, REAL* dx, int target, float part, float largest, float total, int V) {
    float scale = part / total;
    for (int c = threadIdx.x * WIDTH; c < V; c += blockDim.x * WIDTH) {
        float v[WIDTH];
        load(x + c, v);
        for (int i = 0; i < WIDTH; i++) v[i] = power(v[i] - largest) * scale;
        if (c <= target && target < c + WIDTH)
            for (int i = 0; i < WIDTH; i++) v[i] -= c + i == target ? part : 0;
        store(dx + c, v);
    }
}

extern "C" __global__ void losses(const REAL* x, const int* targets, float* nll, float* largest, float* total, int V,
                                  int ignored) {
    const REAL* row = x + blockIdx.x * (long long)V;
    float top, sum;
    row_statistics(row, nullptr, false, V, top, sum);
    if (threadIdx.x == 0) {
        nll[blockIdx.x] = loss_of(row, targets[blockIdx.x], top, sum, V, ignored);
        largest[blockIdx.x] = top;
        total[blockIdx.x] = sum;
    }
}

// One block: the share 1/N that each counted position has in the mean.
extern "C" __global__ void share_of_counted(const int* targets, float* share, int n, int ignored) {
    float counted = 0;  // whole numbers up to 2²⁴ are exact
    for (int start = threadIdx.x; start < n; start += 8 * blockDim.x) {
        int t[8];
        for (int k = 0; k < 8; k++) t[k] = targets[min(start + k * blockDim.x, n - 1)];
        for (int k = 0; k < 8; k++) counted += start + k * blockDim.x < n && t[k] != ignored;
    }
    counted = block_sum(counted);
    if (threadIdx.x == 0) *share = 1 / fmaxf(counted, 1);
}

// One block: the mean of the losses; those that are not counted are 0.
extern "C" __global__ void mean_loss(const float* nll, const float* share, float* y, int n) {
    float sum = 0;
    for (int start = threadIdx.x; start < n; start += 8 * blockDim.x) {
        float v[8];
        for (int k = 0; k < 8; k++) v[k] = nll[min(start + k * blockDim.x, n - 1)];
        for (int k = 0; k < 8; k++) sum += start + k * blockDim.x < n ? v[k] : 0;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = sum * *share;
}

// The gradient of each row's loss is one number, the share 1/N times dy (step 0), or each row has its own (step 1).
extern "C" __global__ void losses_backward(const float* share, int step, const REAL* x, const int* targets,
                                           const float* largest, const float* total, REAL* dx, int V, int ignored) {
    long long row = blockIdx.x * (long long)V;
    int target = targets[blockIdx.x];
    float part = target == ignored ? 0 : share[blockIdx.x * step];
    row_gradient(x + row, dx + row, target, part, largest[blockIdx.x], total[blockIdx.x], V);
}

// For the fused classifier: the losses, and the logits' gradient in their place, while they are near.
extern __shared__ uint4 near[];

extern "C" __global__ void __launch_bounds__(1024) losses_and_gradients(const float* share, int step, REAL* x,
                                                                        const int* targets, float* nll, int V,
                                                                        int ignored) {
    REAL *row = x + blockIdx.x * (long long)V, *near_row = reinterpret_cast<REAL*>(near);
    int target = targets[blockIdx.x];
    float top, sum;
    row_statistics(row, near_row, KEPT, V, top, sum);
    if (threadIdx.x == 0) nll[blockIdx.x] = loss_of(row, target, top, sum, V, ignored);
    __syncthreads();  // the target's logit is read before it is written over
    float part = target == ignored ? 0 : share[blockIdx.x * step];
    row_gradient(KEPT ? near_row : row, row, target, part, top, sum, V);  // a thread reads what it has copied itself
}

