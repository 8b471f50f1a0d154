/* Writes small ONNX models, byte by byte, so that tests can make good and bad ones without other tools. */
#ifndef MEZZO_TEST_ONNX_WRITER_H
#define MEZZO_TEST_ONNX_WRITER_H

#include <stddef.h>
#include <stdint.h>

/* A protobuf message under construction. Starts as {0}; free with pb_free. */
typedef struct pb {
    unsigned char *data;
    size_t size, capacity;
} pb;

void pb_free(pb *m);
void pb_raw(pb *m, const void *data, size_t size);
void pb_varint(pb *m, uint64_t value);
void pb_int(pb *m, unsigned field, int64_t value);
void pb_bytes(pb *m, unsigned field, const void *data, size_t size);
void pb_string(pb *m, unsigned field, const char *text);
/* Adds a message and frees it. */
void pb_message(pb *m, unsigned field, pb *inner);

/* A dimension: a size, or a symbol where it is not NULL. */
typedef struct dim {
    int64_t size;
    const char *symbol;
} dim;

/* Adds an input (field 11 of a graph) or an output (12). */
void graph_io(pb *graph, unsigned field, const char *name, int32_t dtype, const dim *dims, size_t rank);

/* Adds a float32 initializer. */
void graph_constant(pb *graph, const char *name, const int64_t *dims, size_t rank, const float *values, size_t count);

/* Adds a float32 initializer whose bytes are in a file. */
void graph_external(pb *graph, const char *name, const int64_t *dims, size_t rank, const char *location,
                    const char *offset, const char *length);

/* Adds a node with one output; `second` may be NULL. */
void graph_node(pb *graph, const char *name, const char *op_type, const char *domain, const char *first,
                const char *second, const char *output);

/* Wraps a graph into a model (opset 17) and frees it. */
pb model_of(pb *graph);

/* y = Relu(x W + b) with x float32 [N,3], W [3,2], y [N,2]: the model most tests use. */
pb linear_model(void);

/* The same with W in the file `location`, `offset` bytes into it. */
pb linear_model_external(const char *location, const char *offset, const char *length);

/* W is {1, 2; 3, 4; 5, 6}, b is {0.5, -100}. */
extern const float linear_weights[6];

#endif
