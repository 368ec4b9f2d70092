// Three MXNet operators that compute a fusion on MS-CAM with a local and a global context in fewer passes over the maps.
// compiled.py puts them together.
//
//   squeeze   h = W u + b, the mean and deviation of each channel of h, and the mean of u over the plane
//   moments   the mean and deviation of each channel of W relu(s h + t) + b, without that map
//   gate      z = scale * (m (x - y) + y), or scale * (m x + y), with m = sigmoid(W relu(s h + t) + g)
//
// u, x, y, z are (N, C, H, W), h is (N, K, H, W), g is (N, C, 1, 1), s and t are (1, K, 1, 1); all are float32 and plain.
// Maps are worked on in tiles of some pixels of one image, all of whose channels stay in the processor's cache, and what
// is cheap to compute again (the activations, m) is not kept for the backward pass.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib_api.cc"       // MXNet's half of its extension interface, as its wheel has it

namespace {

using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
using mxnet::ext::MX_FAIL;
using mxnet::ext::MX_SUCCESS;
using mxnet::ext::OpResource;

typedef std::vector<MXTensor> Tensors;
typedef std::unordered_map<std::string, std::string> Attributes;
typedef std::vector<float> Floats;

// ------------------------------------------------------------------------------------------------ vectors of 8 floats

constexpr int LANES = 8;
typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vec all(float x) { return Vec{x, x, x, x, x, x, x, x}; }
inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
inline float sum(Vec v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

// The first n of them where less than 8 are left: the others are read as zero, or made zero, and not written.
inline Vec load(const float* p, int64_t n) {
  if (n >= LANES) return load(p);
  Vec v{};
  std::memcpy(&v, p, n * sizeof(float));
  return v;
}
inline void store(float* p, Vec v, int64_t n) {
  if (n >= LANES)
    store(p, v);
  else
    std::memcpy(p, &v, n * sizeof(float));
}
inline Vec only(Vec v, int64_t n) {
  for (int64_t i = n; i < LANES; ++i) v[i] = 0;
  return v;
}

// Comparisons are written so that NaN stays NaN.
inline Vec relu(Vec x) { return x < Vec{} ? Vec{} : x; }

// exp(x) = 2^n exp(f) with n whole and |f| <= log(2) / 2; exp(f) by Cephes' polynomial, to one or two units in the last
// place. log(2) is subtracted in two parts, and n is rounded by adding and taking away 1.5 * 2^23.
inline Vec exponential(Vec x) {
  x = x > all(88.f) ? all(88.f) : x;
  x = x < all(-87.f) ? all(-87.f) : x;
  Vec n = x * all(1.44269504f) + all(12582912.f);
  const IntVec power = (reinterpret_cast<IntVec>(n) - 0x4B400000 + 127) << 23;
  n -= all(12582912.f);
  const Vec f = x - n * all(0.693359375f) + n * all(2.12194440e-4f);
  Vec p = all(1.9875691500e-4f);
  p = p * f + all(1.3981999507e-3f);
  p = p * f + all(8.3334519073e-3f);
  p = p * f + all(4.1665795894e-2f);
  p = p * f + all(1.6666665459e-1f);
  p = p * f + all(5.0000001201e-1f);
  return (p * f * f + f + all(1.f)) * reinterpret_cast<Vec>(power);
}

inline Vec sigmoid(Vec x) { return all(1.f) / (all(1.f) + exponential(-x)); }

// --------------------------------------------------------------------------------------------------- matrix products

constexpr int ROWS = 6;         // with two vectors a row they fill the 16 registers of AVX2
constexpr int DEPTH = 256;      // two vectors of so many rows fit into the first-level cache

inline int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

template <int M, int N>
inline void block(int depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, bool add) {
  Vec total[M][N];
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) total[i][j] = add ? load(c + i * ldc + j * LANES) : Vec{};
  for (int k = 0; k < depth; ++k)
    for (int i = 0; i < M; ++i)
      for (int j = 0; j < N; ++j) total[i][j] += all(a[i * lda + k]) * load(b + k * ldb + j * LANES);
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) store(c + i * ldc + j * LANES, total[i][j]);
}

template <int N>
inline void panel(int rows, int depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                  bool add) {
  int i = 0;
  for (; i + ROWS <= rows; i += ROWS) block<ROWS, N>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
  for (; i + 2 <= rows; i += 2) block<2, N>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
  for (; i < rows; ++i) block<1, N>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
}

// c = a b, or c += a b; c is (rows, columns), a (rows, depth), b (depth, columns), with 8 dividing columns.
void product(int rows, int columns, int depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
             int64_t ldc, bool add = false) {
  for (int k = 0; k < depth; k += DEPTH) {
    const int deep = std::min(DEPTH, depth - k);
    const float *left = a + k, *right = b + k * ldb;
    int j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES)
      panel<2>(rows, deep, left, lda, right + j, ldb, c + j, ldc, add || k > 0);
    for (; j < columns; j += LANES) panel<1>(rows, deep, left, lda, right + j, ldb, c + j, ldc, add || k > 0);
  }
}

// The same by all threads.
void shared_product(int rows, int columns, int depth, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
                    int64_t ldc) {
#pragma omp parallel for schedule(static)
  for (int first = 0; first < rows; first += 4 * ROWS)
    product(std::min(4 * ROWS, rows - first), columns, depth, a + first * lda, lda, b, ldb, c + first * ldc, ldc);
}

// b (columns, rows) = a (rows, columns), transposed.
void transpose(int rows, int columns, const float* a, int64_t lda, float* b, int64_t ldb) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) b[j * ldb + i] = a[i * lda + j];
}

// The same by all threads, of a matrix without gaps: 16 columns at a time, so that what is written stays in the cache.
Floats transposed(int rows, int columns, const float* a) {
  Floats b(int64_t(rows) * columns);
#pragma omp parallel for schedule(static)
  for (int first = 0; first < columns; first += 16)
    transpose(rows, std::min(16, columns - first), a + first, columns, b.data() + int64_t(first) * rows, rows);
  return b;
}

// ------------------------------------------------------------------------------------------------------------- tiles

constexpr int PIXELS = 256;     // of a tile, at most
constexpr int BAND = 24;        // channels of a tile whose intermediate values are in the cache at a time

struct Tile {
  int64_t image, first;     // first: its first pixel
  int pixels, width;        // width: pixels, rounded up to whole vectors
  int64_t at(int64_t channels, int64_t channel, int64_t plane) const {
    return (image * channels + channel) * plane + first;
  }
};

struct Tiles {
  int64_t images, plane, width, each;       // each: tiles of an image
  explicit Tiles(const MXTensor& map) : images(map.shape[0]), plane(map.shape[2] * map.shape[3]) {
    const int64_t threads = omp_get_max_threads();
    const int64_t wanted = std::max((plane + PIXELS - 1) / PIXELS, (threads + images - 1) / images);
    width = padded((plane + wanted - 1) / wanted);
    each = (plane + width - 1) / width;
  }
  int64_t count() const { return images * each; }
  double pixels() const { return double(images) * plane; }
  Tile operator[](int64_t index) const {
    const int64_t first = index % each * width;
    const int pixels = std::min(width, plane - first);
    return {index / each, first, pixels, int(padded(pixels))};
  }
};

// Sums that each thread makes of its own tiles, added up in the order of the threads, so that equal runs are equal.
class Sums {
 public:
  explicit Sums(int64_t size) : size_(size), parts_(omp_get_max_threads()) {}
  float* mine() {
    Floats& part = parts_[omp_get_thread_num()];
    part.assign(size_, 0.f);
    return part.data();
  }
  Floats total() const {
    Floats total(size_);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < size_; ++i) {
      double value = 0;
      for (const Floats& part : parts_)
        if (!part.empty()) value += part[i];
      total[i] = value;
    }
    return total;
  }

 private:
  int64_t size_;
  std::vector<Floats> parts_;
};

// Of values by tile and channel, (tiles, channels): factor times the sum over each image's tiles, (images, channels).
void by_image(const Tiles& tiles, int64_t channels, const Floats& values, double factor, float* out) {
  for (int64_t n = 0; n < tiles.images; ++n)
    for (int64_t c = 0; c < channels; ++c) {
      double total = 0;
      for (int64_t i = 0; i < tiles.each; ++i) total += values[(n * tiles.each + i) * channels + c];
      out[n * channels + c] = factor * total;
    }
}

// relu(s h + t) of a tile, (K, width), zero behind the last pixel.
void activations(const Tile& tile, int K, int64_t plane, const float* h, const float* s, const float* t, float* a) {
  for (int k = 0; k < K; ++k) {
    const float* from = h + tile.at(K, k, plane);
    float* row = a + k * tile.width;
    for (int i = 0; i < tile.pixels; i += LANES)
      store(row + i, relu(all(s[k]) * load(from + i, tile.pixels - i) + all(t[k])));
    std::fill(row + tile.pixels, row + tile.width, 0.f);
  }
}

// From the gradient of a tile's activations to those of h, s and t.
void activations_backward(const Tile& tile, int K, int64_t plane, const float* h, const float* s, const float* a,
                          const float* da, float* dh, float* ds, float* dt) {
  for (int k = 0; k < K; ++k) {
    const int64_t at = tile.at(K, k, plane);
    Vec slope{}, shift{};
    for (int i = 0; i < tile.pixels; i += LANES) {
      const Vec grad = load(a + k * tile.width + i) > Vec{} ? load(da + k * tile.width + i) : Vec{};
      store(dh + at + i, grad * all(s[k]), tile.pixels - i);
      slope += grad * load(h + at + i, tile.pixels - i);
      shift += grad;
    }
    ds[k] += sum(slope);
    dt[k] += sum(shift);
  }
}

// ----------------------------------------------------------------------------------------------------------- squeeze
// u, W (K, C, 1, 1), b (K) -> h, mean (1, K, 1, 1), deviation (1, K, 1, 1), pooled (N, C, 1, 1)

MXReturnValue squeeze(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  const float *u = (*in)[0].data<float>(), *w = (*in)[1].data<float>(), *b = (*in)[2].data<float>();
  float *h = (*out)[0].data<float>(), *mean = (*out)[1].data<float>(), *deviation = (*out)[2].data<float>(),
        *pooled = (*out)[3].data<float>();
  const int C = (*in)[0].shape[1], K = (*in)[1].shape[0];
  const Tiles tiles((*in)[0]);
  const int64_t count = tiles.count();
  // Mean and sum of squared differences from it of each tile: a variance from sums of squares would lose its digits.
  Floats means(count * K), squares(count * K), sums(count * C);
#pragma omp parallel
  {
    Floats map(C * tiles.width), hidden(K * tiles.width);
#pragma omp for schedule(static)
    for (int64_t index = 0; index < count; ++index) {
      const Tile tile = tiles[index];
      for (int c = 0; c < C; ++c) {
        const float* from = u + tile.at(C, c, tiles.plane);
        Vec total{};
        for (int i = 0; i < tile.pixels; i += LANES) {
          const Vec v = load(from + i, tile.pixels - i);
          store(map.data() + c * tile.width + i, v);
          total += v;
        }
        sums[index * C + c] = sum(total);
      }
      product(K, tile.width, C, w, C, map.data(), tile.width, hidden.data(), tile.width);
      for (int k = 0; k < K; ++k) {
        const float* row = hidden.data() + k * tile.width;
        float* to = h + tile.at(K, k, tiles.plane);
        Vec total{}, square{};
        for (int i = 0; i < tile.pixels; i += LANES) {
          total += load(row + i);
          store(to + i, load(row + i) + all(b[k]), tile.pixels - i);
        }
        const float middle = sum(total) / tile.pixels;
        for (int i = 0; i < tile.pixels; i += LANES) {
          const Vec off = only(load(row + i) - all(middle), tile.pixels - i);
          square += off * off;
        }
        means[index * K + k] = middle + b[k];
        squares[index * K + k] = sum(square);
      }
    }
  }
  for (int k = 0; k < K; ++k) {
    double middle = 0, variance = 0;
    for (int64_t index = 0; index < count; ++index)
      middle += means[index * K + k] * (tiles[index].pixels / tiles.pixels());
    for (int64_t index = 0; index < count; ++index) {
      const double off = means[index * K + k] - middle;
      variance += (squares[index * K + k] + off * off * tiles[index].pixels) / tiles.pixels();
    }
    mean[k] = middle;
    deviation[k] = std::sqrt(variance);
  }
  by_image(tiles, C, sums, 1. / tiles.plane, pooled);
  return MX_SUCCESS;
}

MXReturnValue squeeze_backward(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  const float *dh = (*in)[0].data<float>(), *dmean = (*in)[1].data<float>(), *ddeviation = (*in)[2].data<float>(),
              *dpooled = (*in)[3].data<float>(), *u = (*in)[4].data<float>(), *w = (*in)[5].data<float>(),
              *h = (*in)[7].data<float>(), *mean = (*in)[8].data<float>(), *deviation = (*in)[9].data<float>();
  float *du = (*out)[0].data<float>(), *dw = (*out)[1].data<float>(), *db = (*out)[2].data<float>();
  const int C = (*in)[4].shape[1], K = (*in)[5].shape[0];
  const int64_t KP = padded(K);
  const Tiles tiles((*in)[4]);
  const Floats wt = transposed(K, C, w);
  // What mean and deviation add to the gradient of h: even + slope * h.
  Floats even(K), slope(K);
  for (int k = 0; k < K; ++k) {
    slope[k] = deviation[k] > 0 ? ddeviation[k] / (tiles.pixels() * deviation[k]) : 0;
    even[k] = dmean[k] / tiles.pixels() - slope[k] * mean[k];
  }
  Sums weight(C * KP), bias(K);
#pragma omp parallel
  {
    Floats hidden(K * tiles.width), turned(tiles.width * KP, 0.f), map(C * tiles.width);
    float *dwt = weight.mine(), *dbias = bias.mine();
#pragma omp for schedule(static)
    for (int64_t index = 0; index < tiles.count(); ++index) {
      const Tile tile = tiles[index];
      for (int k = 0; k < K; ++k) {
        const int64_t at = tile.at(K, k, tiles.plane);
        float* row = hidden.data() + k * tile.width;
        for (int i = 0; i < tile.pixels; i += LANES)
          store(row + i, load(dh + at + i, tile.pixels - i) + all(even[k]) +
                             all(slope[k]) * load(h + at + i, tile.pixels - i));
        std::fill(row + tile.pixels, row + tile.width, 0.f);
        Vec total{};
        for (int i = 0; i < tile.width; i += LANES) total += load(row + i);
        dbias[k] += sum(total);
      }
      transpose(K, tile.pixels, hidden.data(), tile.width, turned.data(), KP);
      product(C, KP, tile.pixels, u + tile.at(C, 0, tiles.plane), tiles.plane, turned.data(), KP, dwt, KP, true);
      product(C, tile.width, K, wt.data(), K, hidden.data(), tile.width, map.data(), tile.width);
      for (int c = 0; c < C; ++c) {
        const Vec even_pool = all(dpooled[tile.image * C + c] / tiles.plane);
        float* to = du + tile.at(C, c, tiles.plane);
        for (int i = 0; i < tile.pixels; i += LANES)
          store(to + i, load(map.data() + c * tile.width + i) + even_pool, tile.pixels - i);
      }
    }
  }
  const Floats dwt = transposed(C, KP, weight.total().data()), dbias = bias.total();
  std::copy_n(dwt.data(), int64_t(K) * C, dw);
  std::copy_n(dbias.data(), K, db);
  return MX_SUCCESS;
}

// ----------------------------------------------------------------------------------------------------------- moments
// h, s, t, W (C, K, 1, 1), b (C) -> mean (1, C, 1, 1), deviation (1, C, 1, 1), and of the activations mean (K) and
// covariance (K, K), which are for the backward pass only. The mean of W a + b is W mean(a) + b, and its covariance is
// W cov(a) W', of which the diagonal is wanted.

MXReturnValue moments(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  const float *h = (*in)[0].data<float>(), *s = (*in)[1].data<float>(), *t = (*in)[2].data<float>(),
              *w = (*in)[3].data<float>(), *b = (*in)[4].data<float>();
  float *mean = (*out)[0].data<float>(), *deviation = (*out)[1].data<float>(), *middle = (*out)[2].data<float>(),
        *covariance = (*out)[3].data<float>();
  const int K = (*in)[0].shape[1], C = (*in)[3].shape[0];
  const int64_t KP = padded(K);
  const Tiles tiles((*in)[0]);
  const int64_t count = tiles.count();
  Floats means(count * K);
  Sums square(K * KP);
#pragma omp parallel
  {
    Floats a(K * tiles.width), turned(tiles.width * KP, 0.f);
    float* mine = square.mine();
#pragma omp for schedule(static)
    for (int64_t index = 0; index < count; ++index) {
      const Tile tile = tiles[index];
      activations(tile, K, tiles.plane, h, s, t, a.data());
      for (int k = 0; k < K; ++k) {
        float* row = a.data() + k * tile.width;
        Vec total{};
        for (int i = 0; i < tile.width; i += LANES) total += load(row + i);
        const float of_tile = means[index * K + k] = sum(total) / tile.pixels;
        for (int i = 0; i < tile.width; i += LANES) store(row + i, load(row + i) - all(of_tile));
      }
      transpose(K, tile.pixels, a.data(), tile.width, turned.data(), KP);
      product(K, KP, tile.pixels, a.data(), tile.width, turned.data(), KP, mine, KP, true);
    }
  }
  const Floats within = square.total();
  std::vector<double> overall(K, 0.);
  for (int64_t index = 0; index < count; ++index)
    for (int k = 0; k < K; ++k) overall[k] += means[index * K + k] * (tiles[index].pixels / tiles.pixels());
  Floats off(count * KP, 0.f), weighted(K * count), between(K * KP), total(K * KP, 0.f);
  for (int64_t index = 0; index < count; ++index)
    for (int k = 0; k < K; ++k) {
      off[index * KP + k] = means[index * K + k] - overall[k];
      weighted[k * count + index] = off[index * KP + k] * tiles[index].pixels;
    }
  product(K, KP, count, weighted.data(), count, off.data(), KP, between.data(), KP);
  for (int k = 0; k < K; ++k) {
    middle[k] = overall[k];
    for (int l = 0; l < K; ++l)
      covariance[k * K + l] = total[k * KP + l] = (within[k * KP + l] + between[k * KP + l]) / tiles.pixels();
  }
#pragma omp parallel
  {
    Floats through(BAND * KP);
#pragma omp for schedule(static)
    for (int first = 0; first < C; first += BAND) {
      const int band = std::min(BAND, C - first);
      product(band, KP, K, w + first * K, K, total.data(), KP, through.data(), KP);
      for (int i = 0; i < band; ++i) {
        const int c = first + i;
        double expected = b[c], variance = 0;
        for (int k = 0; k < K; ++k) {
          expected += overall[k] * w[c * K + k];
          variance += double(through[i * KP + k]) * w[c * K + k];
        }
        mean[c] = expected;
        deviation[c] = std::sqrt(std::max(0., variance));
      }
    }
  }
  return MX_SUCCESS;
}

MXReturnValue moments_backward(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  const float *dmean = (*in)[0].data<float>(), *ddeviation = (*in)[1].data<float>(), *h = (*in)[4].data<float>(),
              *s = (*in)[5].data<float>(), *t = (*in)[6].data<float>(), *w = (*in)[7].data<float>(),
              *deviation = (*in)[10].data<float>(), *middle = (*in)[11].data<float>(),
              *covariance = (*in)[12].data<float>();
  float *dh = (*out)[0].data<float>(), *ds = (*out)[1].data<float>(), *dt = (*out)[2].data<float>(),
        *dw = (*out)[3].data<float>(), *db = (*out)[4].data<float>();
  const int K = (*in)[4].shape[1], C = (*in)[7].shape[0];
  const int64_t KP = padded(K);
  const Tiles tiles((*in)[4]);
  // The gradient of an activation is even + (slope a), with a K by K matrix as slope.
  const Floats wt = transposed(C, K, w);
  Floats total(K * KP, 0.f), through(C * KP), scaled(C * KP, 0.f), slope(K * KP), even(K);
  for (int k = 0; k < K; ++k) std::copy(covariance + k * K, covariance + (k + 1) * K, total.data() + k * KP);
  shared_product(C, KP, K, w, K, total.data(), KP, through.data(), KP);
  for (int c = 0; c < C; ++c) {
    const float twice = deviation[c] > 0 ? ddeviation[c] / deviation[c] : 0;       // the variance's gradient, twice
    db[c] = dmean[c];
    for (int k = 0; k < K; ++k) {
      dw[c * K + k] = dmean[c] * middle[k] + twice * through[c * KP + k];
      scaled[c * KP + k] = twice * w[c * K + k] / tiles.pixels();
    }
  }
  shared_product(K, KP, C, wt.data(), C, scaled.data(), KP, slope.data(), KP);
  for (int k = 0; k < K; ++k) {
    double value = 0;
    for (int c = 0; c < C; ++c) value += double(wt[k * C + c]) * dmean[c] / tiles.pixels();
    for (int l = 0; l < K; ++l) value -= double(slope[k * KP + l]) * middle[l];
    even[k] = value;
  }
  Sums slopes(K), shifts(K);
#pragma omp parallel
  {
    Floats a(K * tiles.width), da(K * tiles.width);
    float *my_slopes = slopes.mine(), *my_shifts = shifts.mine();
#pragma omp for schedule(static)
    for (int64_t index = 0; index < tiles.count(); ++index) {
      const Tile tile = tiles[index];
      activations(tile, K, tiles.plane, h, s, t, a.data());
      for (int k = 0; k < K; ++k) std::fill_n(da.data() + k * tile.width, tile.width, even[k]);
      product(K, tile.width, K, slope.data(), KP, a.data(), tile.width, da.data(), tile.width, true);
      activations_backward(tile, K, tiles.plane, h, s, a.data(), da.data(), dh, my_slopes, my_shifts);
    }
  }
  std::copy_n(slopes.total().data(), K, ds);
  std::copy_n(shifts.total().data(), K, dt);
  return MX_SUCCESS;
}

// -------------------------------------------------------------------------------------------------------------- gate
// x, y, h, s, t, W (C, K, 1, 1), g -> z

struct GateSettings {
  float scale, other;       // other: 1 for m (x - y) + y, 0 for m x + y
  explicit GateSettings(const Attributes& attributes)
      : scale(std::stof(attributes.at("scale"))), other(attributes.at("difference") == "True" ? 1.f : 0.f) {}
};

MXReturnValue gate(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const float *x = (*in)[0].data<float>(), *y = (*in)[1].data<float>(), *h = (*in)[2].data<float>(),
              *s = (*in)[3].data<float>(), *t = (*in)[4].data<float>(), *w = (*in)[5].data<float>(),
              *g = (*in)[6].data<float>();
  float* z = (*out)[0].data<float>();
  const GateSettings settings(attributes);
  const Vec scale = all(settings.scale), other = all(settings.other);
  const int C = (*in)[0].shape[1], K = (*in)[2].shape[1];
  const Tiles tiles((*in)[0]);
#pragma omp parallel
  {
    Floats a(K * tiles.width), logits(BAND * tiles.width);
#pragma omp for schedule(static)
    for (int64_t index = 0; index < tiles.count(); ++index) {
      const Tile tile = tiles[index];
      activations(tile, K, tiles.plane, h, s, t, a.data());
      for (int first = 0; first < C; first += BAND) {
        const int band = std::min(BAND, C - first);
        product(band, tile.width, K, w + first * K, K, a.data(), tile.width, logits.data(), tile.width);
        for (int j = 0; j < band; ++j) {
          const int c = first + j;
          const int64_t at = tile.at(C, c, tiles.plane);
          const Vec shift = all(g[tile.image * C + c]);
          for (int i = 0; i < tile.pixels; i += LANES) {
            const int left = tile.pixels - i;
            const Vec m = sigmoid(load(logits.data() + j * tile.width + i) + shift), second = load(y + at + i, left);
            store(z + at + i, scale * (m * (load(x + at + i, left) - other * second) + second), left);
          }
        }
      }
    }
  }
  return MX_SUCCESS;
}

MXReturnValue gate_backward(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const float *dz = (*in)[0].data<float>(), *x = (*in)[1].data<float>(), *y = (*in)[2].data<float>(),
              *h = (*in)[3].data<float>(), *s = (*in)[4].data<float>(), *t = (*in)[5].data<float>(),
              *w = (*in)[6].data<float>(), *g = (*in)[7].data<float>();
  float *dx = (*out)[0].data<float>(), *dy = (*out)[1].data<float>(), *dh = (*out)[2].data<float>(),
        *ds = (*out)[3].data<float>(), *dt = (*out)[4].data<float>(), *dw = (*out)[5].data<float>(),
        *dg = (*out)[6].data<float>();
  const GateSettings settings(attributes);
  const Vec scale = all(settings.scale), other = all(settings.other);
  const int C = (*in)[1].shape[1], K = (*in)[3].shape[1];
  const int64_t KP = padded(K);
  const Tiles tiles((*in)[1]);
  const Floats wt = transposed(C, K, w);
  Floats sums(tiles.count() * C);
  Sums weight(C * KP), slopes(K), shifts(K);
#pragma omp parallel
  {
    Floats a(K * tiles.width), turned(tiles.width * KP, 0.f), logits(BAND * tiles.width), da(K * tiles.width);
    float *my_weight = weight.mine(), *my_slopes = slopes.mine(), *my_shifts = shifts.mine();
#pragma omp for schedule(static)
    for (int64_t index = 0; index < tiles.count(); ++index) {
      const Tile tile = tiles[index];
      activations(tile, K, tiles.plane, h, s, t, a.data());
      transpose(K, tile.pixels, a.data(), tile.width, turned.data(), KP);
      for (int first = 0; first < C; first += BAND) {
        const int band = std::min(BAND, C - first);
        product(band, tile.width, K, w + first * K, K, a.data(), tile.width, logits.data(), tile.width);
        for (int j = 0; j < band; ++j) {
          const int c = first + j;
          const int64_t at = tile.at(C, c, tiles.plane);
          const Vec shift = all(g[tile.image * C + c]);
          float* row = logits.data() + j * tile.width;      // of the logits; then of their gradients
          Vec total{};
          for (int i = 0; i < tile.pixels; i += LANES) {
            const int left = tile.pixels - i;
            const Vec grad = scale * load(dz + at + i, left), m = sigmoid(load(row + i) + shift), part = grad * m;
            store(dx + at + i, part, left);
            store(dy + at + i, grad - other * part, left);
            const Vec weighed = load(x + at + i, left) - other * load(y + at + i, left);
            const Vec of_logit = weighed * (part - part * m);
            store(row + i, of_logit);
            total += of_logit;
          }
          sums[index * C + c] = sum(total);
        }
        product(band, KP, tile.pixels, logits.data(), tile.width, turned.data(), KP, my_weight + first * KP, KP, true);
        product(K, tile.width, band, wt.data() + first, C, logits.data(), tile.width, da.data(), tile.width, first > 0);
      }
      activations_backward(tile, K, tiles.plane, h, s, a.data(), da.data(), dh, my_slopes, my_shifts);
    }
  }
  const Floats all_weight = weight.total();
  for (int c = 0; c < C; ++c) std::copy_n(all_weight.data() + c * KP, K, dw + c * K);
  std::copy_n(slopes.total().data(), K, ds);
  std::copy_n(shifts.total().data(), K, dt);
  by_image(tiles, C, sums, 1, dg);
  return MX_SUCCESS;
}

// ------------------------------------------------------------------------------------- numbers, types, shapes for MXNet

template <int INPUTS, int OUTPUTS>
MXReturnValue arity(const Attributes&, int* inputs, int* outputs) {
  *inputs = INPUTS;
  *outputs = OUTPUTS;
  return MX_SUCCESS;
}

MXReturnValue floats(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (auto* types : {in, out})
    for (int& type : *types) {
      if (type != -1 && type != mxnet::ext::kFloat32) {
        MX_ERROR_MSG << "gluon_aff's compiled operators take float32 only.";
        return MX_FAIL;
      }
      type = mxnet::ext::kFloat32;
    }
  return MX_SUCCESS;
}

typedef std::vector<unsigned> Shape;
typedef std::vector<Shape> Shapes;

// MXNet asks before it knows all shapes; a side it does not know is 0.
bool known(const Shape& shape) {
  return !shape.empty() && std::find(shape.begin(), shape.end(), 0u) == shape.end();
}

// The shapes of the inputs must be these, where they are known.
MXReturnValue expect(const char* name, Shapes* in, const Shapes& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (known((*in)[i]) && (*in)[i] != expected[i]) {
      MX_ERROR_MSG << name << " got an input " << i << " that does not have the shape the others ask for.";
      return MX_FAIL;
    }
    (*in)[i] = expected[i];
  }
  return MX_SUCCESS;
}

MXReturnValue squeeze_shapes(const Attributes&, Shapes* in, Shapes* out) {
  const Shape u = (*in)[0], w = (*in)[1];
  if (!known(u) || !known(w)) return MX_SUCCESS;
  *out = {{u[0], w[0], u[2], u[3]}, {1, w[0], 1, 1}, {1, w[0], 1, 1}, {u[0], u[1], 1, 1}};
  return expect("gluon_aff_squeeze", in, {u, {w[0], u[1], 1, 1}, {w[0]}});
}

MXReturnValue moments_shapes(const Attributes&, Shapes* in, Shapes* out) {
  const Shape h = (*in)[0], w = (*in)[3];
  if (!known(h) || !known(w)) return MX_SUCCESS;
  const unsigned K = h[1], C = w[0];
  *out = {{1, C, 1, 1}, {1, C, 1, 1}, {K}, {K, K}};
  return expect("gluon_aff_moments", in, {h, {1, K, 1, 1}, {1, K, 1, 1}, {C, K, 1, 1}, {C}});
}

MXReturnValue gate_shapes(const Attributes&, Shapes* in, Shapes* out) {
  const Shape x = (*in)[0], h = (*in)[2];
  if (!known(x) || !known(h)) return MX_SUCCESS;
  const unsigned K = h[1], C = x[1];
  *out = {x};
  return expect("gluon_aff_gate", in, {x, x, {x[0], K, x[2], x[3]}, {1, K, 1, 1}, {1, K, 1, 1}, {C, K, 1, 1},
                                       {x[0], C, 1, 1}});
}

}  // namespace

REGISTER_OP(gluon_aff_squeeze)
    .setForward(squeeze, "cpu")
    .setBackward(squeeze_backward, "cpu")
    .setParseAttrs(arity<3, 4>)
    .setInferType(floats)
    .setInferShape(squeeze_shapes);

REGISTER_OP(gluon_aff_moments)
    .setForward(moments, "cpu")
    .setBackward(moments_backward, "cpu")
    .setParseAttrs(arity<5, 4>)
    .setInferType(floats)
    .setInferShape(moments_shapes);

REGISTER_OP(gluon_aff_gate)
    .setForward(gate, "cpu")
    .setBackward(gate_backward, "cpu")
    .setParseAttrs(arity<7, 1>)
    .setInferType(floats)
    .setInferShape(gate_shapes);

MXReturnValue initialize(int version) { return version / 100 == 109 ? MX_SUCCESS : MX_FAIL; }
