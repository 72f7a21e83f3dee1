// The activations of hidden layers, entry by entry: y = f(x), dx = dy f′(x), with x alone kept for the backward pass.
//
//   relu          max(x, 0)            dy [x > 0]
//   relu_squared  max(x, 0)²           2 dy max(x, 0)
//   silu          x σ(x)               dy (σ + x σ (1 − σ))
//   gelu          x Φ(x)               dy (Φ + x φ)
//   gelu_tanh     x σ(2u)              dy (σ + x σ (1 − σ) 2u′)      u = √(2/π) (x + 0.044715 x³); (1 + tanh u)/2 = σ(2u)
//
// Memory: forward reads x and writes y, a packet a thread; backward reads x and dy and writes dx. A mask selects: the
// gradient that it leaves out is 0, even if dy is infinite or NaN.
//
// Backward, a block has LANES packets of each of ROWS rows of C entries, and goes on in steps of all blocks' rows, so
// that a thread stays in its columns. It sums their dx in registers on the way, in float32; in the end the block adds
// its rows' sums, one after the other, and leaves them in a row of `parts`, from which the gradient of a bias is
// computed without reading dx (columns.py). For 32,768 rows of 3,072 columns these are 44 rows, a thousandth of what is
// read and written. Without parts the entries may be cut into rows of any multiple of WIDTH; the last may end early.
//
//   F: which of them

#include "common.cuh"

const int LANES = 64, ROWS = 8, AT_ONCE = 3;  // rows that a thread loads before it needs the first

// The exact quotient takes ten instructions and a branch, so that arithmetic would take longer than memory.
__device__ float logistic(float x) { return __fdividef(1, 1 + exp2f(-1.44269504f * x)); }

__device__ float relu(float x) { return x <= 0 ? 0 : x; }  // a NaN stays NaN
__device__ float relu_gradient(float dy, float x) { return x > 0 ? dy : 0; }

__device__ float relu_squared(float x) { return relu(x) * relu(x); }
__device__ float relu_squared_gradient(float dy, float x) { return 2 * relu_gradient(dy, x) * relu(x); }

__device__ float silu(float x) { return x * logistic(x); }
__device__ float silu_gradient(float dy, float x) {
    float s = logistic(x);
    return dy * (s + x * s * (1 - s));
}

__device__ float normal(float x) { return 0.5f * erfcf(-0.70710678f * x); }  // Φ; erfc is exact where 1 + erf cancels
__device__ float gelu(float x) { return x * normal(x); }
__device__ float gelu_gradient(float dy, float x) { return dy * (normal(x) + x * 0.39894228f * expf(-0.5f * x * x)); }

__device__ float twice_u(float x) { return 1.59576912f * x * (1 + 0.044715f * x * x); }
__device__ float gelu_tanh(float x) { return x * logistic(twice_u(x)); }
__device__ float gelu_tanh_gradient(float dy, float x) {
    float s = logistic(twice_u(x));
    return dy * (s + x * s * (1 - s) * 1.59576912f * (1 + 3 * 0.044715f * x * x));
}

#define JOINED(a, b) a##b
#define GRADIENT(f) JOINED(f, _gradient)

extern "C" __global__ void activation_forward(const REAL* x, REAL* y, long long n) {
    long long i = first();
    if (i >= n) return;
    float v[WIDTH];
    load(x + i, v);
    for (int j = 0; j < WIDTH; j++) v[j] = F(v[j]);
    store(y + i, v);
}

extern "C" __global__ void __launch_bounds__(LANES * ROWS, 2)
    activation_backward(const REAL* dy, const REAL* x, REAL* dx, float* parts, long long n, int C) {
    __shared__ float of_row[ROWS][LANES][WIDTH];
    int lane = threadIdx.x % LANES, row = threadIdx.x / LANES, c = (blockIdx.x * LANES + lane) * WIDTH;
    long long step = gridDim.y * ROWS * (long long)C;
    float sum[WIDTH] = {};
    if (c < C)
#pragma unroll 1
        for (long long i = (blockIdx.y * ROWS + row) * (long long)C + c; i < n; i += AT_ONCE * step) {
            float v[AT_ONCE][WIDTH], d[AT_ONCE][WIDTH];
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {  // no branch around a load: all are on the way at the same time
                load(x + (i + k * step < n ? i + k * step : i), v[k]);
                load(dy + (i + k * step < n ? i + k * step : i), d[k]);
            }
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                if (i + k * step >= n) break;
                for (int j = 0; j < WIDTH; j++) sum[j] += d[k][j] = GRADIENT(F)(d[k][j], v[k][j]);
                store(dx + i + k * step, d[k]);
            }
        }
    if (!parts) return;
    for (int j = 0; j < WIDTH; j++) of_row[row][lane][j] = sum[j];
    __syncthreads();
    if (row == 0 && c < C) {
        for (int other = 1; other < ROWS; other++)
            for (int j = 0; j < WIDTH; j++) sum[j] += of_row[other][lane][j];
        store(parts + blockIdx.y * (long long)C + c, sum);
    }
}
