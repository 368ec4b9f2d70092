// MXNet operators that compute a fusion on MS-CAM with a local and a global context in fewer passes over the maps.
// kernels.py combines them.
//
//   squeeze   h = W u + b, the mean and deviation of each channel of h, and the mean of u over the plane
//   moments   the mean and deviation of each channel of W relu(s h + t) + b, without that map
//   gate      z = scale * (m (x - y) + y), or scale * (m x + y), with m = sigmoid(W relu(s h + t) + g)
//   copies    a map several times: the gradient is summed in one pass
//
// u, x, y, z are (N, C, H, W), h is (N, K, H, W), g is (N, C, 1, 1), s and t are (1, K, 1, 1); all are contiguous. u, x, y
// and z, the maps, are float32 or bfloat16; everything else, and all that is computed, is float32.
// Maps are worked on in tiles of some pixels of one image, all of whose channels stay in the processor's cache, and what
// is cheap to compute again (the activations, m) is not kept for the backward pass.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <locale>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "lib_api.cc"       // MXNet's half of its extension interface, as its wheel has it
#pragma GCC diagnostic pop

namespace {

using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
using mxnet::ext::MX_FAIL;
using mxnet::ext::MX_SUCCESS;
using mxnet::ext::OpResource;

typedef std::vector<MXTensor> Tensors;
typedef std::unordered_map<std::string, std::string> Attributes;
typedef std::vector<float> Floats;
typedef int64_t Index;

// ------------------------------------------------------------------------------------------------ vectors of 8 floats

constexpr Index LANES = 8;
typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t BitVec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t Bfloat16;        // the upper half of a float
typedef Bfloat16 HalfVec __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

inline Vec all(float x) { return Vec{x, x, x, x, x, x, x, x}; }
inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
inline float sum(Vec v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

// The first n of them where less than 8 are left: the others are read as zero, or made zero, and not written.
inline Vec load(const float* p, Index n) {
  if (n >= LANES) return load(p);
  Vec v{};
  std::memcpy(&v, p, size_t(n) * sizeof(float));
  return v;
}
inline void store(float* p, Vec v, Index n) {
  if (n >= LANES)
    store(p, v);
  else
    std::memcpy(p, &v, size_t(n) * sizeof(float));
}

inline Vec widened(HalfVec half) { return reinterpret_cast<Vec>(__builtin_convertvector(half, BitVec) << 16); }
// To the nearest, and to the even one of two; a NaN's bits could be rounded to those of infinity.
inline HalfVec rounded(Vec v) {
  const BitVec bits = reinterpret_cast<BitVec>(v), nearest = bits + 0x7FFFu + ((bits >> 16) & 1u);
  return __builtin_convertvector((v == v ? nearest : bits | 0x400000u) >> 16, HalfVec);
}
inline Vec load(const Bfloat16* p) { return widened(*reinterpret_cast<const HalfVec*>(p)); }
inline Vec load(const Bfloat16* p, Index n) {
  if (n >= LANES) return load(p);
  HalfVec half{};
  std::memcpy(&half, p, size_t(n) * sizeof(Bfloat16));
  return widened(half);
}
inline void store(Bfloat16* p, Vec v, Index n) {
  const HalfVec half = rounded(v);
  if (n >= LANES)
    *reinterpret_cast<HalfVec*>(p) = half;
  else
    std::memcpy(p, &half, size_t(n) * sizeof(Bfloat16));
}

inline Vec only(Vec v, Index n) {
  for (Index i = n; i < LANES; ++i) v[i] = 0;
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
  // Without signs, for a NaN's bits may be shifted anywhere.
  const BitVec power = (reinterpret_cast<BitVec>(n) - 0x4B400000u + 127u) << 23;
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

constexpr Index ROWS = 6;         // with two vectors a row they fill the 16 registers of AVX2
constexpr Index DEPTH = 256;      // two vectors of this many rows fit into the first-level cache

inline Index padded(Index n) { return (n + LANES - 1) / LANES * LANES; }

template <Index M, Index N>
inline void block(Index depth, const float* a, Index lda, const float* b, Index ldb, float* c, Index ldc, bool add) {
  Vec total[M][N];
  for (Index i = 0; i < M; ++i)
    for (Index j = 0; j < N; ++j) total[i][j] = add ? load(c + i * ldc + j * LANES) : Vec{};
  for (Index k = 0; k < depth; ++k)
    for (Index i = 0; i < M; ++i)
      for (Index j = 0; j < N; ++j) total[i][j] += all(a[i * lda + k]) * load(b + k * ldb + j * LANES);
  for (Index i = 0; i < M; ++i)
    for (Index j = 0; j < N; ++j) store(c + i * ldc + j * LANES, total[i][j]);
}

template <Index N>
inline void panel(Index rows, Index depth, const float* a, Index lda, const float* b, Index ldb, float* c, Index ldc,
                  bool add) {
  Index i = 0;
  for (; i + ROWS <= rows; i += ROWS) block<ROWS, N>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
  for (; i + 2 <= rows; i += 2) block<2, N>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
  for (; i < rows; ++i) block<1, N>(depth, a + i * lda, lda, b, ldb, c + i * ldc, ldc, add);
}

// c = a b, or c += a b; c is (rows, columns), a (rows, depth), b (depth, columns), with 8 dividing columns.
void product(Index rows, Index columns, Index depth, const float* a, Index lda, const float* b, Index ldb, float* c,
             Index ldc, bool add = false) {
  for (Index k = 0; k < depth; k += DEPTH) {
    const Index deep = std::min(DEPTH, depth - k);
    const float *left = a + k, *right = b + k * ldb;
    Index j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES)
      panel<2>(rows, deep, left, lda, right + j, ldb, c + j, ldc, add || k > 0);
    for (; j < columns; j += LANES) panel<1>(rows, deep, left, lda, right + j, ldb, c + j, ldc, add || k > 0);
  }
}

// The same by all threads.
void shared_product(Index rows, Index columns, Index depth, const float* a, Index lda, const float* b, Index ldb,
                    float* c, Index ldc) {
#pragma omp parallel for schedule(static)
  for (Index first = 0; first < rows; first += 4 * ROWS)
    product(std::min(4 * ROWS, rows - first), columns, depth, a + first * lda, lda, b, ldb, c + first * ldc, ldc);
}

// b (columns, rows) = a (rows, columns), transposed.
void transpose(Index rows, Index columns, const float* a, Index lda, float* b, Index ldb) {
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) b[j * ldb + i] = a[i * lda + j];
}

// The same by all threads, of a matrix without gaps: 16 columns at a time, so that what is written stays in the cache.
Floats transposed(Index rows, Index columns, const float* a) {
  Floats b(size_t(rows * columns));
#pragma omp parallel for schedule(static)
  for (Index first = 0; first < columns; first += 16)
    transpose(rows, std::min<Index>(16, columns - first), a + first, columns, b.data() + first * rows, rows);
  return b;
}

// ------------------------------------------------------------------------------------------------------------- tiles

// An input or output of an operator, (images, channels, plane): a vector is (1, channels, 1).
template <typename Number>
struct View {
  Number* data;
  Index images, channels, plane;
  Number* operator()(Index image, Index channel, Index pixel = 0) const {
    return data + (image * channels + channel) * plane + pixel;
  }
};
typedef View<const float> In;
typedef View<float> Out;

template <typename Number>
View<Number> view(const Tensors& tensors, size_t index) {
  const MXTensor& tensor = tensors.at(index);
  const std::vector<int64_t>& shape = tensor.shape;
  const bool is_float = std::is_same<typename std::remove_const<Number>::type, float>::value;
  if (tensor.dtype != (is_float ? mxnet::ext::kFloat32 : mxnet::ext::kBfloat16) ||
      tensor.stype != mxnet::ext::kDefaultStorage || !tensor.data_ptr)
    throw std::invalid_argument("got an array that is not dense, or not of the type of the others");
  if (*std::min_element(shape.begin(), shape.end()) < 1) throw std::invalid_argument("got an empty array");
  Number* data = static_cast<Number*>(tensor.data_ptr);
  switch (shape.size()) {
    case 1: return {data, 1, shape[0], 1};
    case 2: return {data, shape[0], shape[1], 1};
    case 4: return {data, shape[0], shape[1], shape[2] * shape[3]};
  }
  throw std::invalid_argument("got an array of another number of axes");
}
In input(const Tensors& tensors, size_t index) { return view<const float>(tensors, index); }
Out output(const Tensors& tensors, size_t index) { return view<float>(tensors, index); }

constexpr Index PIXELS = 256;     // of a tile, at most, or up to four times as many where there are few channels
constexpr Index VALUES = 64 * PIXELS;     // of such a tile: it stays in the second-level cache
constexpr Index BAND = 24;        // channels of a tile whose intermediate values are in the cache at a time

struct Tile {
  Index image, first;       // first: its first pixel
  Index pixels, width;      // width: pixels, rounded up to whole vectors
  Index row;                // from one channel to the next in a thread's own memory
};

struct Tiles {
  Index threads, images, plane, width, row, per_image;      // per_image: tiles of an image
  template <typename Number>
  explicit Tiles(const View<Number>& map) : threads(omp_get_max_threads()), images(map.images), plane(map.plane) {
    const Index most = std::max(PIXELS, std::min(4 * PIXELS, VALUES / map.channels));
    const Index least = std::max((plane + most - 1) / most, (threads + images - 1) / images);
    width = padded((plane + least - 1) / least);
    row = width + 2 * LANES;        // at a power of two the channels would share few lines of the cache
    per_image = (plane + width - 1) / width;
  }
  Index count() const { return images * per_image; }
  double pixels() const { return double(images) * double(plane); }
  Tile operator[](Index index) const {
    const Index first = index % per_image * width, pixels = std::min(width, plane - first);
    return {index / per_image, first, pixels, padded(pixels), row};
  }
};

// Memory of each thread, zero at first. It is allocated before the threads start: no exception may leave them.
class Scratch {
 public:
  Scratch(Index threads, Index size) : size_(size + 16), memory_(size_t(threads * size_)) {}
  float* mine() { return memory_.data() + omp_get_thread_num() * size_; }

 private:
  Index size_;        // with a cache line between two threads'
  Floats memory_;
};

// Sums over tiles, of each thread and then of all in the order of the threads, so that equal runs are equal. A thread
// adds up some tiles in float32, and those sums in float64: over a hundred thousand pixels float32 loses three digits.
class Sums {
 public:
  Sums(Index threads, Index size)
      : size_(size), floats_(size_t(threads * size)), doubles_(size_t(threads * size)), pixels_(size_t(threads) * 16) {}
  // What the calling thread adds its tile's values to, and what it calls behind them.
  float* mine() { return floats_.data() + omp_get_thread_num() * size_; }
  void next(const Tile& tile) {
    Index& pixels = pixels_[size_t(omp_get_thread_num()) * 16];
    pixels += tile.pixels;
    if (pixels < 4 * PIXELS) return;
    pixels = 0;
    float* from = mine();
    double* to = doubles_.data() + omp_get_thread_num() * size_;
    for (Index i = 0; i < size_; ++i) to[i] += double(from[i]);
    std::fill_n(from, size_, 0.f);
  }
  float operator[](Index i) const {
    double value = 0;
    for (size_t at = size_t(i); at < floats_.size(); at += size_t(size_)) value += doubles_[at] + double(floats_[at]);
    return float(value);
  }
  void total(float* out) const {
    for (Index i = 0; i < size_; ++i) out[i] = (*this)[i];
  }

 private:
  Index size_;
  Floats floats_;
  std::vector<double> doubles_;
  std::vector<Index> pixels_;       // a thread's own is 16 away from the next one's
};

// Of values by tile and channel, (tiles, channels): factor times the sum over each image's tiles, (images, channels).
void by_image(const Tiles& tiles, Index channels, const Floats& values, double factor, float* out) {
  for (Index n = 0; n < tiles.images; ++n)
    for (Index c = 0; c < channels; ++c) {
      double total = 0;
      for (Index i = 0; i < tiles.per_image; ++i)
        total += double(values[size_t((n * tiles.per_image + i) * channels + c)]);
      out[n * channels + c] = float(factor * total);
    }
}

// A tile of a map as a matrix of floats, (C, pixels): where it lies, or copied.
struct Rows {
  const float* data;
  Index row;
};
Rows in_floats(const In& map, const Tile& tile, float*) { return {map(tile.image, 0, tile.first), map.plane}; }
Rows in_floats(const View<const Bfloat16>& map, const Tile& tile, float* copy) {
  for (Index c = 0; c < map.channels; ++c) {
    const Bfloat16* from = map(tile.image, c, tile.first);
    for (Index i = 0; i < tile.pixels; i += LANES) store(copy + c * tile.row + i, load(from + i, tile.pixels - i));
  }
  return {copy, tile.row};
}

// relu(s h + t) of a tile, (K, width), zero behind the last pixel.
void activations(const Tile& tile, const In& h, const In& s, const In& t, float* a) {
  for (Index k = 0; k < h.channels; ++k) {
    const float* from = h(tile.image, k, tile.first);
    float* row = a + k * tile.row;
    for (Index i = 0; i < tile.pixels; i += LANES)
      store(row + i, relu(all(s.data[k]) * load(from + i, tile.pixels - i) + all(t.data[k])));
    std::fill(row + tile.pixels, row + tile.width, 0.f);
  }
}

// From the gradient of a tile's activations to those of h, s and t.
void activations_backward(const Tile& tile, const In& h, const In& s, const float* a, const float* da, const Out& dh,
                          float* ds, float* dt) {
  for (Index k = 0; k < h.channels; ++k) {
    const float* from = h(tile.image, k, tile.first);
    float* to = dh(tile.image, k, tile.first);
    Vec slope{}, shift{};
    for (Index i = 0; i < tile.pixels; i += LANES) {
      const Vec grad = load(a + k * tile.row + i) <= Vec{} ? Vec{} : load(da + k * tile.row + i);
      store(to + i, grad * all(s.data[k]), tile.pixels - i);
      slope += grad * load(from + i, tile.pixels - i);
      shift += grad;
    }
    ds[k] += sum(slope);
    dt[k] += sum(shift);
  }
}

// ----------------------------------------------------------------------------------------------------------- squeeze
// u, W (K, C, 1, 1), b (K) -> h, mean (1, K, 1, 1), deviation (1, K, 1, 1), pooled (N, C, 1, 1)

template <typename Number>
void squeeze(const Attributes&, const Tensors& inputs, const Tensors& outputs) {
  const auto u = view<const Number>(inputs, 0);
  const In w = input(inputs, 1), b = input(inputs, 2);
  const Out h = output(outputs, 0), mean = output(outputs, 1), deviation = output(outputs, 2),
            pooled = output(outputs, 3);
  const Index C = u.channels, K = w.images;
  const Tiles tiles(u);
  const Index count = tiles.count();
  // Mean and sum of squared differences from it of each tile: a variance from sums of squares would lose its digits.
  Floats means(size_t(count * K)), squares(size_t(count * K)), sums(size_t(count * C));
  Scratch maps(tiles.threads, C * tiles.row), hiddens(tiles.threads, K * tiles.row);
#pragma omp parallel for schedule(static) num_threads(int(tiles.threads))
  for (Index index = 0; index < count; ++index) {
    float *map = maps.mine(), *hidden = hiddens.mine();
    const Tile tile = tiles[index];
    for (Index c = 0; c < C; ++c) {
      const Number* from = u(tile.image, c, tile.first);
      Vec total{};
      for (Index i = 0; i < tile.pixels; i += LANES) {
        const Vec v = load(from + i, tile.pixels - i);
        store(map + c * tile.row + i, v);
        total += v;
      }
      sums[size_t(index * C + c)] = sum(total);
    }
    product(K, tile.width, C, w.data, C, map, tile.row, hidden, tile.row);
    for (Index k = 0; k < K; ++k) {
      const float* row = hidden + k * tile.row;
      float* to = h(tile.image, k, tile.first);
      Vec total{}, square{};
      for (Index i = 0; i < tile.pixels; i += LANES) {
        total += load(row + i);
        store(to + i, load(row + i) + all(b.data[k]), tile.pixels - i);
      }
      const float middle = sum(total) / float(tile.pixels);
      for (Index i = 0; i < tile.pixels; i += LANES) {
        const Vec off = only(load(row + i) - all(middle), tile.pixels - i);
        square += off * off;
      }
      means[size_t(index * K + k)] = middle + b.data[k];
      squares[size_t(index * K + k)] = sum(square);
    }
  }
  for (Index k = 0; k < K; ++k) {
    double middle = 0, variance = 0;
    for (Index index = 0; index < count; ++index)
      middle += double(means[size_t(index * K + k)]) * (double(tiles[index].pixels) / tiles.pixels());
    for (Index index = 0; index < count; ++index) {
      const double off = double(means[size_t(index * K + k)]) - middle;
      variance += (double(squares[size_t(index * K + k)]) + off * off * double(tiles[index].pixels)) / tiles.pixels();
    }
    mean.data[k] = float(middle);
    deviation.data[k] = float(std::sqrt(variance));
  }
  by_image(tiles, C, sums, 1. / double(tiles.plane), pooled.data);
}

template <typename Number>
void squeeze_backward(const Attributes&, const Tensors& inputs, const Tensors& outputs) {
  const In dh = input(inputs, 0), dmean = input(inputs, 1), ddeviation = input(inputs, 2), dpooled = input(inputs, 3),
           w = input(inputs, 5), h = input(inputs, 7), mean = input(inputs, 8), deviation = input(inputs, 9);
  const auto u = view<const Number>(inputs, 4);
  const auto du = view<Number>(outputs, 0);
  const Out dw = output(outputs, 1), db = output(outputs, 2);
  const Index C = u.channels, K = w.images, KP = padded(K);
  const Tiles tiles(u);
  const Floats wt = transposed(K, C, w.data);
  // What mean and deviation add to the gradient of h: even + slope * h.
  Floats even, slope;
  for (Index k = 0; k < K; ++k) {
    const double of_h = deviation.data[k] == 0.f ? 0.
                        : double(ddeviation.data[k]) / (tiles.pixels() * double(deviation.data[k]));
    slope.push_back(float(of_h));
    even.push_back(float(double(dmean.data[k]) / tiles.pixels() - of_h * double(mean.data[k])));
  }
  Sums weight(tiles.threads, C * KP), bias(tiles.threads, K);
  Scratch hiddens(tiles.threads, K * tiles.row), turneds(tiles.threads, tiles.width * KP),
      maps(tiles.threads, C * tiles.row);
#pragma omp parallel for schedule(static) num_threads(int(tiles.threads))
  for (Index index = 0; index < tiles.count(); ++index) {
    float *hidden = hiddens.mine(), *turned = turneds.mine(), *map = maps.mine(), *dbias = bias.mine();
    const Tile tile = tiles[index];
    for (Index k = 0; k < K; ++k) {
      const float *from = dh(tile.image, k, tile.first), *of_h = h(tile.image, k, tile.first);
      float* row = hidden + k * tile.row;
      for (Index i = 0; i < tile.pixels; i += LANES)
        store(row + i, load(from + i, tile.pixels - i) + all(even[size_t(k)]) +
                           all(slope[size_t(k)]) * load(of_h + i, tile.pixels - i));
      std::fill(row + tile.pixels, row + tile.width, 0.f);
      Vec total{};
      for (Index i = 0; i < tile.width; i += LANES) total += load(row + i);
      dbias[k] += sum(total);
    }
    transpose(K, tile.pixels, hidden, tile.row, turned, KP);
    const Rows rows = in_floats(u, tile, map);
    product(C, KP, tile.pixels, rows.data, rows.row, turned, KP, weight.mine(), KP, true);
    product(C, tile.width, K, wt.data(), K, hidden, tile.row, map, tile.row);
    for (Index c = 0; c < C; ++c) {
      const Vec even_pool = all(*dpooled(tile.image, c) / float(tiles.plane));
      Number* to = du(tile.image, c, tile.first);
      for (Index i = 0; i < tile.pixels; i += LANES)
        store(to + i, load(map + c * tile.row + i) + even_pool, tile.pixels - i);
    }
    weight.next(tile);
    bias.next(tile);
  }
  for (Index k = 0; k < K; ++k)
    for (Index c = 0; c < C; ++c) *dw(k, c) = weight[c * KP + k];
  bias.total(db.data);
}

// ----------------------------------------------------------------------------------------------------------- moments
// h, s, t, W (C, K, 1, 1), b (C) -> mean (1, C, 1, 1), deviation (1, C, 1, 1), and of the activations mean (K) and
// covariance (K, K), which are for the backward pass only. The mean of W a + b is W mean(a) + b, and its covariance is
// W cov(a) W', whose diagonal is needed.

void moments(const Attributes&, const Tensors& inputs, const Tensors& outputs) {
  const In h = input(inputs, 0), s = input(inputs, 1), t = input(inputs, 2), w = input(inputs, 3), b = input(inputs, 4);
  const Out mean = output(outputs, 0), deviation = output(outputs, 1), middle = output(outputs, 2),
            covariance = output(outputs, 3);
  const Index K = h.channels, C = w.images, KP = padded(K);
  const Tiles tiles(h);
  const Index count = tiles.count();
  Floats means(size_t(count * K));
  Sums square(tiles.threads, K * KP);
  Scratch actives(tiles.threads, K * tiles.row), turneds(tiles.threads, tiles.width * KP);
#pragma omp parallel for schedule(static) num_threads(int(tiles.threads))
  for (Index index = 0; index < count; ++index) {
    float *a = actives.mine(), *turned = turneds.mine();
    const Tile tile = tiles[index];
    activations(tile, h, s, t, a);
    for (Index k = 0; k < K; ++k) {
      float* row = a + k * tile.row;
      Vec total{};
      for (Index i = 0; i < tile.width; i += LANES) total += load(row + i);
      const float of_tile = means[size_t(index * K + k)] = sum(total) / float(tile.pixels);
      for (Index i = 0; i < tile.width; i += LANES) store(row + i, load(row + i) - all(of_tile));
    }
    transpose(K, tile.pixels, a, tile.row, turned, KP);
    product(K, KP, tile.pixels, a, tile.row, turned, KP, square.mine(), KP, true);
    square.next(tile);
  }
  std::vector<double> overall(size_t(K), 0.);
  for (Index index = 0; index < count; ++index)
    for (Index k = 0; k < K; ++k)
      overall[size_t(k)] += double(means[size_t(index * K + k)]) * (double(tiles[index].pixels) / tiles.pixels());
  Floats off(size_t(count * KP)), weighted(size_t(K * count)), between(size_t(K * KP)), total(size_t(K * KP));
  for (Index index = 0; index < count; ++index)
    for (Index k = 0; k < K; ++k) {
      const double of_tile = double(means[size_t(index * K + k)]) - overall[size_t(k)];
      off[size_t(index * KP + k)] = float(of_tile);
      weighted[size_t(k * count + index)] = float(of_tile * double(tiles[index].pixels));
    }
  product(K, KP, count, weighted.data(), count, off.data(), KP, between.data(), KP);
  for (Index k = 0; k < K; ++k) {
    middle.data[k] = float(overall[size_t(k)]);
    for (Index l = 0; l < K; ++l)
      covariance.data[k * K + l] = total[size_t(k * KP + l)] =
          float((double(square[k * KP + l]) + double(between[size_t(k * KP + l)])) / tiles.pixels());
  }
  Floats through(size_t(C * KP));
  shared_product(C, KP, K, w.data, K, total.data(), KP, through.data(), KP);
  for (Index c = 0; c < C; ++c) {
    double expected = double(b.data[c]), variance = 0;
    for (Index k = 0; k < K; ++k) {
      expected += overall[size_t(k)] * double(*w(c, k));
      variance += double(through[size_t(c * KP + k)]) * double(*w(c, k));
    }
    mean.data[c] = float(expected);
    deviation.data[c] = float(std::sqrt(variance < 0 ? 0 : variance));
  }
}

void moments_backward(const Attributes&, const Tensors& inputs, const Tensors& outputs) {
  const In dmean = input(inputs, 0), ddeviation = input(inputs, 1), h = input(inputs, 4), s = input(inputs, 5),
           t = input(inputs, 6), w = input(inputs, 7), deviation = input(inputs, 10), middle = input(inputs, 11),
           covariance = input(inputs, 12);
  const Out dh = output(outputs, 0), ds = output(outputs, 1), dt = output(outputs, 2), dw = output(outputs, 3),
            db = output(outputs, 4);
  const Index K = h.channels, C = w.images, KP = padded(K);
  const Tiles tiles(h);
  // The gradient of an activation is even + (slope a), with a K by K matrix as slope.
  const Floats wt = transposed(C, K, w.data);
  Floats total(size_t(K * KP)), through(size_t(C * KP)), scaled(size_t(C * KP)), slope(size_t(K * KP)), even;
  for (Index k = 0; k < K; ++k) std::copy_n(covariance(k, 0), K, total.data() + k * KP);
  shared_product(C, KP, K, w.data, K, total.data(), KP, through.data(), KP);
  for (Index c = 0; c < C; ++c) {
    // The variance's gradient, twice.
    const float twice = deviation.data[c] == 0.f ? 0.f : ddeviation.data[c] / deviation.data[c];
    db.data[c] = dmean.data[c];
    for (Index k = 0; k < K; ++k) {
      *dw(c, k) = dmean.data[c] * middle.data[k] + twice * through[size_t(c * KP + k)];
      scaled[size_t(c * KP + k)] = float(double(twice) * double(*w(c, k)) / tiles.pixels());
    }
  }
  shared_product(K, KP, C, wt.data(), C, scaled.data(), KP, slope.data(), KP);
  for (Index k = 0; k < K; ++k) {
    double value = 0;
    for (Index c = 0; c < C; ++c) value += double(wt[size_t(k * C + c)]) * double(dmean.data[c]) / tiles.pixels();
    for (Index l = 0; l < K; ++l) value -= double(slope[size_t(k * KP + l)]) * double(middle.data[l]);
    even.push_back(float(value));
  }
  Sums slopes(tiles.threads, K), shifts(tiles.threads, K);
  Scratch actives(tiles.threads, K * tiles.row), gradients(tiles.threads, K * tiles.row);
#pragma omp parallel for schedule(static) num_threads(int(tiles.threads))
  for (Index index = 0; index < tiles.count(); ++index) {
    float *a = actives.mine(), *da = gradients.mine();
    const Tile tile = tiles[index];
    activations(tile, h, s, t, a);
    for (Index k = 0; k < K; ++k) std::fill_n(da + k * tile.row, tile.width, even[size_t(k)]);
    product(K, tile.width, K, slope.data(), KP, a, tile.row, da, tile.row, true);
    activations_backward(tile, h, s, a, da, dh, slopes.mine(), shifts.mine());
    slopes.next(tile);
    shifts.next(tile);
  }
  slopes.total(ds.data);
  shifts.total(dt.data);
}

// -------------------------------------------------------------------------------------------------------------- gate
// x, y, h, s, t, W (C, K, 1, 1), g -> z

// Attributes of MXNet's own, such as __ctx_group__, are no concern of ours.
void expect_attributes(const Attributes& attributes, const std::vector<std::string>& names) {
  for (const auto& attribute : attributes)
    if (attribute.first.compare(0, 2, "__") && std::find(names.begin(), names.end(), attribute.first) == names.end())
      throw std::invalid_argument("got an unknown attribute, " + attribute.first);
  for (const std::string& name : names)
    if (!attributes.count(name)) throw std::invalid_argument("needs the attribute " + name);
}

struct GateSettings {
  float scale, other;       // other: 1 for m (x - y) + y, 0 for m x + y
  explicit GateSettings(const Attributes& attributes) {
    expect_attributes(attributes, {"scale", "difference"});
    std::istringstream text(attributes.at("scale"));
    text.imbue(std::locale::classic());       // whatever language the process speaks
    if (!(text >> scale) || text.peek() != std::istringstream::traits_type::eof() || !std::isfinite(scale))
      throw std::invalid_argument("takes a finite number as scale, got " + attributes.at("scale"));
    const std::string& difference = attributes.at("difference");
    other = difference == "True" || difference == "1" ? 1.f : 0.f;
    if (other == 0.f && difference != "False" && difference != "0")
      throw std::invalid_argument("takes True or False as difference, got " + difference);
  }
};

template <typename Number>
void gate(const Attributes& attributes, const Tensors& inputs, const Tensors& outputs) {
  const auto x = view<const Number>(inputs, 0), y = view<const Number>(inputs, 1);
  const In h = input(inputs, 2), s = input(inputs, 3), t = input(inputs, 4), w = input(inputs, 5), g = input(inputs, 6);
  const auto z = view<Number>(outputs, 0);
  const GateSettings settings(attributes);
  const Vec scale = all(settings.scale), other = all(settings.other);
  const Index C = x.channels, K = h.channels;
  const Tiles tiles(x);
  Scratch actives(tiles.threads, K * tiles.row), bands(tiles.threads, BAND * tiles.row);
#pragma omp parallel for schedule(static) num_threads(int(tiles.threads))
  for (Index index = 0; index < tiles.count(); ++index) {
    float *a = actives.mine(), *logits = bands.mine();
    const Tile tile = tiles[index];
    activations(tile, h, s, t, a);
    for (Index first = 0; first < C; first += BAND) {
      const Index band = std::min(BAND, C - first);
      product(band, tile.width, K, w(first, 0), K, a, tile.row, logits, tile.row);
      for (Index j = 0; j < band; ++j) {
        const Index c = first + j;
        const float* row = logits + j * tile.row;
        const Number *from_x = x(tile.image, c, tile.first), *from_y = y(tile.image, c, tile.first);
        Number* to = z(tile.image, c, tile.first);
        const Vec shift = all(*g(tile.image, c));
        for (Index i = 0; i < tile.pixels; i += LANES) {
          const Index left = tile.pixels - i;
          const Vec m = sigmoid(load(row + i) + shift), second = load(from_y + i, left);
          store(to + i, scale * (m * (load(from_x + i, left) - other * second) + second), left);
        }
      }
    }
  }
}

template <typename Number>
void gate_backward(const Attributes& attributes, const Tensors& inputs, const Tensors& outputs) {
  const auto dz = view<const Number>(inputs, 0), x = view<const Number>(inputs, 1), y = view<const Number>(inputs, 2);
  const In h = input(inputs, 3), s = input(inputs, 4), t = input(inputs, 5), w = input(inputs, 6), g = input(inputs, 7);
  const auto dx = view<Number>(outputs, 0), dy = view<Number>(outputs, 1);
  const Out dh = output(outputs, 2), ds = output(outputs, 3), dt = output(outputs, 4), dw = output(outputs, 5),
            dg = output(outputs, 6);
  const GateSettings settings(attributes);
  const Vec scale = all(settings.scale), other = all(settings.other);
  const Index C = x.channels, K = h.channels, KP = padded(K);
  const Tiles tiles(x);
  const Floats wt = transposed(C, K, w.data);
  Floats sums(size_t(tiles.count() * C));
  Sums weight(tiles.threads, C * KP), slopes(tiles.threads, K), shifts(tiles.threads, K);
  Scratch actives(tiles.threads, K * tiles.row), turneds(tiles.threads, tiles.width * KP),
      bands(tiles.threads, BAND * tiles.row), gradients(tiles.threads, K * tiles.row);
#pragma omp parallel for schedule(static) num_threads(int(tiles.threads))
  for (Index index = 0; index < tiles.count(); ++index) {
    float *a = actives.mine(), *turned = turneds.mine(), *logits = bands.mine(), *da = gradients.mine();
    const Tile tile = tiles[index];
    activations(tile, h, s, t, a);
    transpose(K, tile.pixels, a, tile.row, turned, KP);
    for (Index first = 0; first < C; first += BAND) {
      const Index band = std::min(BAND, C - first);
      product(band, tile.width, K, w(first, 0), K, a, tile.row, logits, tile.row);
      for (Index j = 0; j < band; ++j) {
        const Index c = first + j;
        const Number *from_z = dz(tile.image, c, tile.first), *from_x = x(tile.image, c, tile.first),
                     *from_y = y(tile.image, c, tile.first);
        Number *to_x = dx(tile.image, c, tile.first), *to_y = dy(tile.image, c, tile.first);
        float* row = logits + j * tile.row;      // of the logits; then of their gradients
        const Vec shift = all(*g(tile.image, c));
        Vec total{};
        for (Index i = 0; i < tile.pixels; i += LANES) {
          const Index left = tile.pixels - i;
          const Vec grad = scale * load(from_z + i, left), m = sigmoid(load(row + i) + shift), part = grad * m;
          store(to_x + i, part, left);
          store(to_y + i, grad - other * part, left);
          const Vec weighed = load(from_x + i, left) - other * load(from_y + i, left);
          const Vec of_logit = weighed * (part - part * m);
          store(row + i, of_logit);
          total += of_logit;
        }
        sums[size_t(index * C + c)] = sum(total);
      }
      product(band, KP, tile.pixels, logits, tile.row, turned, KP, weight.mine() + first * KP, KP, true);
      product(K, tile.width, band, wt.data() + first, C, logits, tile.row, da, tile.row, first > 0);
    }
    activations_backward(tile, h, s, a, da, dh, slopes.mine(), shifts.mine());
    weight.next(tile);
    slopes.next(tile);
    shifts.next(tile);
  }
  for (Index c = 0; c < C; ++c)
    for (Index k = 0; k < K; ++k) *dw(c, k) = weight[c * KP + k];
  slopes.total(ds.data);
  shifts.total(dt.data);
  by_image(tiles, C, sums, 1, dg.data);
}

// ------------------------------------------------------------------------------------------------------------ copies
// x -> x, ..., x. MXNet adds up gradients of bfloat16 in the default layout one number at a time.

Index copies_number(const Attributes& attributes) {
  expect_attributes(attributes, {"number"});
  const std::string& text = attributes.at("number");
  if (text.size() != 1 || text[0] < '2' || text[0] > '9')
    throw std::invalid_argument("takes 2 to 9 as number, got " + text);
  return text[0] - '0';
}

constexpr Index PIECE = 4096;       // what a thread works on at a time

template <typename Number>
void copies(const Attributes&, const Tensors& inputs, const Tensors& outputs) {
  const Number* from = view<const Number>(inputs, 0).data;
  std::vector<Number*> to;
  for (size_t i = 0; i < outputs.size(); ++i) to.push_back(view<Number>(outputs, i).data);
  const Index size = inputs[0].size();
#pragma omp parallel for schedule(static)
  for (Index first = 0; first < size; first += PIECE)
    for (Number* copy : to) std::copy_n(from + first, std::min(PIECE, size - first), copy + first);
}

template <typename Number>
void copies_backward(const Attributes& attributes, const Tensors& inputs, const Tensors& outputs) {
  std::vector<const Number*> from;
  for (Index i = 0; i < copies_number(attributes); ++i) from.push_back(view<const Number>(inputs, size_t(i)).data);
  Number* to = view<Number>(outputs, 0).data;
  const Index size = outputs[0].size();
#pragma omp parallel for schedule(static)
  for (Index first = 0; first < size; first += PIECE)
    for (Index i = first; i < std::min(size, first + PIECE); i += LANES) {
      Vec total{};
      for (const Number* gradient : from) total += load(gradient + i, size - i);
      store(to + i, total, size - i);
    }
}

// ----------------------------------------------------------------------------- what MXNet calls: nothing may be thrown

template <typename Body>
MXReturnValue guarded(Body body) {
  const char* reason = "something unknown was thrown";
  std::string text;
  try {
    body();
    return MX_SUCCESS;
  } catch (const std::bad_alloc&) {
    reason = "there is not enough memory";
  } catch (const std::exception& error) {
    text = error.what();
    reason = text.c_str();
  } catch (...) {
  }
  static std::mutex mutex;        // MXNet's list of messages has none
  const std::lock_guard<std::mutex> lock(mutex);
  MX_ERROR_MSG << "A compiled operator of gluon_aff failed: " << reason << ".";
  return MX_FAIL;
}

typedef void Compute(const Attributes&, const Tensors&, const Tensors&);

// Computes on maps of bfloat16 or float32, whichever input MAP has.
template <Compute* of_floats, Compute* of_bfloat16, size_t MAP>
MXReturnValue run(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  return guarded([&] {
    (in->at(MAP).dtype == mxnet::ext::kBfloat16 ? of_bfloat16 : of_floats)(attributes, *in, *out);
  });
}

void no_settings(const Attributes& attributes) { expect_attributes(attributes, {}); }
void gate_settings(const Attributes& attributes) { GateSettings{attributes}; }

template <int INPUTS, int OUTPUTS, void (*check)(const Attributes&)>
MXReturnValue parse(const Attributes& attributes, int* inputs, int* outputs) {
  *inputs = INPUTS;
  *outputs = OUTPUTS;
  return guarded([&] { check(attributes); });
}

MXReturnValue parse_copies(const Attributes& attributes, int* inputs, int* outputs) {
  *inputs = 1;
  return guarded([&] { *outputs = int(copies_number(attributes)); });
}

// The first inputs and outputs are maps, of float32 or bfloat16; all others are float32.
template <size_t INPUTS, size_t OUTPUTS>
MXReturnValue types(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  return guarded([&] {
    const auto is_bfloat16 = [](int type) { return type == mxnet::ext::kBfloat16; };
    const int of_maps = std::any_of(in->begin(), in->begin() + INPUTS, is_bfloat16) ? mxnet::ext::kBfloat16
                                                                                    : mxnet::ext::kFloat32;
    const auto set = [&](std::vector<int>* list, size_t maps) {
      for (size_t i = 0; i < list->size(); ++i) {
        const int expected = i < maps ? of_maps : mxnet::ext::kFloat32;
        if (list->at(i) != -1 && list->at(i) != expected)
          throw std::invalid_argument("it takes float32 only, and maps of bfloat16");
        list->at(i) = expected;
      }
    };
    set(in, INPUTS);
    set(out, OUTPUTS);
  });
}

MXReturnValue copies_types(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  const MXReturnValue done = types<1, 1>({}, in, in);
  std::fill(out->begin(), out->end(), in->at(0));
  return done;
}

typedef std::vector<unsigned> Shape;
typedef std::vector<Shape> Shapes;

// MXNet asks before it knows all shapes; a side it does not know is 0, or -1 where it works as numpy does.
bool known(const Shape& shape) {
  return !shape.empty() && std::none_of(shape.begin(), shape.end(), [](unsigned side) { return side + 1 <= 1; });
}

// The shapes of the inputs, two of which are known and have four axes, and of the outputs.
struct Shaped {
  Shapes in, out;
};
template <Shaped (*shapes)(const Shape&, const Shape&), size_t FIRST, size_t SECOND>
MXReturnValue infer(const Attributes&, Shapes* in, Shapes* out) {
  return guarded([&] {
    const Shape &first = in->at(FIRST), &second = in->at(SECOND);
    if (!known(first) || !known(second)) return;
    if (first.size() != 4 || second.size() != 4) throw std::invalid_argument("it takes arrays of four axes");
    const Shaped inferred = shapes(first, second);
    for (size_t i = 0; i < inferred.in.size(); ++i)
      if (known(in->at(i)) && in->at(i) != inferred.in[i])
        throw std::invalid_argument("input " + std::to_string(i) + " has not the shape that the others ask for");
    *in = inferred.in;
    *out = inferred.out;
  });
}

MXReturnValue copies_shapes(const Attributes&, Shapes* in, Shapes* out) {
  std::fill(out->begin(), out->end(), in->at(0));
  return MX_SUCCESS;
}

Shaped squeeze_shapes(const Shape& u, const Shape& w) {
  const unsigned K = w[0];
  return {{u, {K, u[1], 1, 1}, {K}}, {{u[0], K, u[2], u[3]}, {1, K, 1, 1}, {1, K, 1, 1}, {u[0], u[1], 1, 1}}};
}

Shaped moments_shapes(const Shape& h, const Shape& w) {
  const unsigned K = h[1], C = w[0];
  return {{h, {1, K, 1, 1}, {1, K, 1, 1}, {C, K, 1, 1}, {C}}, {{1, C, 1, 1}, {1, C, 1, 1}, {K}, {K, K}}};
}

Shaped gate_shapes(const Shape& x, const Shape& h) {
  const unsigned K = h[1], C = x[1];
  return {{x, x, {x[0], K, x[2], x[3]}, {1, K, 1, 1}, {1, K, 1, 1}, {C, K, 1, 1}, {x[0], C, 1, 1}}, {x}};
}

}  // namespace

REGISTER_OP(gluon_aff_squeeze)
    .setForward(run<squeeze<float>, squeeze<Bfloat16>, 0>, "cpu")
    .setBackward(run<squeeze_backward<float>, squeeze_backward<Bfloat16>, 4>, "cpu")
    .setParseAttrs(parse<3, 4, no_settings>)
    .setInferType(types<1, 0>)
    .setInferShape(infer<squeeze_shapes, 0, 1>);

REGISTER_OP(gluon_aff_moments)
    .setForward(run<moments, moments, 0>, "cpu")
    .setBackward(run<moments_backward, moments_backward, 0>, "cpu")
    .setParseAttrs(parse<5, 4, no_settings>)
    .setInferType(types<0, 0>)
    .setInferShape(infer<moments_shapes, 0, 3>);

REGISTER_OP(gluon_aff_gate)
    .setForward(run<gate<float>, gate<Bfloat16>, 0>, "cpu")
    .setBackward(run<gate_backward<float>, gate_backward<Bfloat16>, 0>, "cpu")
    .setParseAttrs(parse<7, 1, gate_settings>)
    .setInferType(types<2, 1>)
    .setInferShape(infer<gate_shapes, 0, 2>);

REGISTER_OP(gluon_aff_copies)
    .setForward(run<copies<float>, copies<Bfloat16>, 0>, "cpu")
    .setBackward(run<copies_backward<float>, copies_backward<Bfloat16>, 0>, "cpu")
    .setParseAttrs(parse_copies)
    .setInferType(copies_types)
    .setInferShape(copies_shapes);

MXReturnValue initialize(int version) { return version / 100 == 109 ? MX_SUCCESS : MX_FAIL; }
