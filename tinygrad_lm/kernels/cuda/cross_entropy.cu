// Softmax and cross-entropy over a vocabulary of V, without writing the probabilities P.
//
//   y = Σ nll / N    nll = log Σ exp(x − max) − (x[target] − max) = −log P[target]    dx = dy (P − [target]) / N
//
// N is the number of positions whose target is not `ignored`, at least 1. A block takes a row of V logits and reads it
// once: each thread keeps the largest it has seen and Σ exp(x − largest), corrected whenever a larger one comes
// (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"), and the block puts these together. Kept
// are two numbers a row. Backward reads the logits again and writes dx, which may lie in the logits' place.
// Memory: forward reads x, backward reads x and writes dx. Places are 64-bit: 65,536 rows of 50,304 pass 2³¹.
// A target outside the vocabulary gives NaN, never a foreign address.

#include "common.cuh"

const float LOWEST = -3.4028235e38f;  // not −∞, for −∞ − (−∞) is NaN

// Of the block's row: its largest logit and Σ exp(x − largest).
__device__ void row_statistics(const REAL* row, int V, float& largest, float& total) {
    float top = LOWEST, sum = 0;
    for (int c = threadIdx.x * WIDTH; c < V; c += blockDim.x * WIDTH) {
        float v[WIDTH], higher = top;
        load(row + c, v);
        for (int i = 0; i < WIDTH; i++) higher = fmaxf(higher, v[i]);
        sum *= expf(top - higher);
        for (int i = 0; i < WIDTH; i++) sum += expf(v[i] - higher);
        top = higher;
    }
    largest = block_max(top);
    total = block_sum(sum * expf(top - largest));
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
        for (int i = 0; i < WIDTH; i++) v[i] = expf(v[i] - largest) * scale - (c + i == target ? part : 0);
        store(dx + c, v);
    }
}

extern "C" __global__ void losses(const REAL* x, const int* targets, float* nll, float* largest, float* total, int V,
                                  int ignored) {
    const REAL* row = x + blockIdx.x * (long long)V;
    float top, sum;
    row_statistics(row, V, top, sum);
    if (threadIdx.x == 0) {
        nll[blockIdx.x] = loss_of(row, targets[blockIdx.x], top, sum, V, ignored);
        largest[blockIdx.x] = top;
        total[blockIdx.x] = sum;
    }
}

// One block: the mean, and the share 1/N that each counted position has in it.
extern "C" __global__ void mean_loss(const float* nll, const int* targets, float* y, float* share, int n, int ignored) {
    float sum = 0, counted = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        sum += nll[i];
        counted += targets[i] != ignored;  // whole numbers up to 2²⁴ are exact
    }
    sum = block_sum(sum);
    counted = fmaxf(block_sum(counted), 1);
    if (threadIdx.x == 0) {
        *y = sum / counted;
        *share = 1 / counted;
    }
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
extern "C" __global__ void losses_and_gradients(const float* share, int step, REAL* x, const int* targets, float* nll,
                                                int V, int ignored) {
    REAL* row = x + blockIdx.x * (long long)V;
    int target = targets[blockIdx.x];
    float top, sum;
    row_statistics(row, V, top, sum);
    if (threadIdx.x == 0) nll[blockIdx.x] = loss_of(row, target, top, sum, V, ignored);
    __syncthreads();  // the target's logit is read before it is written over
    row_gradient(row, row, target, target == ignored ? 0 : share[blockIdx.x * step], top, sum, V);
}
