// Pictures into and out of networks, on the GPU: what cv2 and gcavt.preprocessing do on the CPU, pixel by pixel.
//
// NVRTC compiles this file for the GPU, and the tests compile it for the CPU, where it is held against cv2. Both are
// told not to fuse multiplications with additions, so that they round alike; where OpenCV fuses them fmaf is written.
// One thread makes one pixel.
// Images are RGB uint8, rows without gaps; a matrix takes target pixels (x, y) to source pixels, centres at whole
// numbers.

enum Border { REFLECT_101 = 0, REPLICATE = 1, BLACK = 2 };

static __device__ inline int pixel_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Where OpenCV looks for a row or column outside of the picture; -1: nowhere.
static __device__ inline int inside(int position, int length, int border) {
    if (position >= 0 && position < length) return position;
    if (border == BLACK) return -1;
    if (border == REPLICATE || length == 1) return position < 0 ? 0 : length - 1;
    const int period = 2 * (length - 1);
    position = (position < 0 ? -position : position) % period;
    return position < length ? position : period - position;
}

static __device__ inline unsigned char rounded(float value) {
    return (unsigned char)fminf(fmaxf(rintf(value), 0.0f), 255.0f);
}

// Bytes out, and floats in [0, 1] with channels first, where they are wanted; mask 0 makes a pixel black.
static __device__ inline void put(
    const unsigned char rgb[3], int pixel, int pixels, const unsigned char* mask, unsigned char* bytes, float* floats
) {
    for (int channel = 0; channel < 3; ++channel) {
        const unsigned char value = mask && !mask[pixel] ? 0 : rgb[channel];
        if (bytes) bytes[3 * pixel + channel] = value;
        if (floats) floats[channel * pixels + pixel] = (float)value / 255.0f;
    }
}

// cv2.resize with INTER_AREA, to 1 / factor of the size; source_width is at least factor * width.
extern "C" __global__ void shrink(
    int count, const unsigned char* source, int source_width, int width, int factor,
    const unsigned char* mask, unsigned char* bytes, float* floats
) {
    const int pixel = pixel_index();
    if (pixel >= count) return;
    const int left = pixel % width * factor, top = pixel / width * factor;
    unsigned char rgb[3];
    for (int channel = 0; channel < 3; ++channel) {
        int sum = 0;
        for (int y = 0; y < factor; ++y)
            for (int x = 0; x < factor; ++x) sum += source[3 * ((top + y) * source_width + left + x) + channel];
        rgb[channel] = factor == 2 ? (unsigned char)((sum + 2) >> 2)  // OpenCV rounds halves up here, and here alone
                                   : rounded((float)sum * (1.0f / (factor * factor)));
    }
    put(rgb, pixel, count, mask, bytes, floats);
}

// cv2.warpAffine with INTER_LINEAR. m: the two rows of the matrix.
extern "C" __global__ void warp(
    int count, const unsigned char* source, int source_width, int source_height, int width,
    float m0, float m1, float m2, float m3, float m4, float m5, int border,
    const unsigned char* mask, unsigned char* bytes, float* floats
) {
    const int pixel = pixel_index();
    if (pixel >= count) return;
    const float x = (float)(pixel % width), y = (float)(pixel / width);
    const float source_x = fmaf(m0, x, m1 * y + m2), source_y = fmaf(m3, x, m4 * y + m5);  // as OpenCV 5 does
    const float left = floorf(source_x), top = floorf(source_y);
    const float along = source_x - left, down = source_y - top;
    int columns[2], rows[2];
    for (int step = 0; step < 2; ++step) {
        columns[step] = inside((int)left + step, source_width, border);
        rows[step] = inside((int)top + step, source_height, border);
    }
    unsigned char rgb[3];
    for (int channel = 0; channel < 3; ++channel) {
        float corner[2][2];
        for (int row = 0; row < 2; ++row)
            for (int column = 0; column < 2; ++column)
                corner[row][column] = rows[row] < 0 || columns[column] < 0
                    ? 0.0f
                    : (float)source[3 * (rows[row] * source_width + columns[column]) + channel];
        const float upper = fmaf(along, corner[0][1] - corner[0][0], corner[0][0]);
        const float lower = fmaf(along, corner[1][1] - corner[1][0], corner[1][0]);
        rgb[channel] = rounded(fmaf(down, lower - upper, upper));
    }
    put(rgb, pixel, count, mask, bytes, floats);
}

// The generator's picture and mask, in [0, 1] with channels first, to bytes with channels last. All pixels of a batch
// are counted through; `pixels` is how many one picture has.
extern "C" __global__ void finish(
    int count, int pixels, const float* image, const float* mask, unsigned char* image_bytes, unsigned char* mask_bytes
) {
    const int pixel = pixel_index();
    if (pixel >= count) return;
    const int picture = pixel / pixels, place = pixel % pixels;
    for (int channel = 0; channel < 3; ++channel)
        image_bytes[3 * pixel + channel] = rounded(fabsf(image[(3 * picture + channel) * pixels + place] * 255.0f));
    mask_bytes[pixel] = rounded(fabsf(mask[pixel] * 255.0f));
}
