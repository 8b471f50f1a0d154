#include "onnx_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const float linear_weights[6] = {1, 2, 3, 4, 5, 6};

static const float linear_bias[2] = {0.5f, -100};
static const int64_t weight_dims[] = {3, 2};
static const int64_t bias_dims[] = {2};

void pb_free(pb *m)
{
    free(m->data);
    memset(m, 0, sizeof *m);
}

void pb_raw(pb *m, const void *data, size_t size)
{
    if (m->size + size > m->capacity) {
        m->capacity = 2 * (m->size + size) + 64;
        m->data = realloc(m->data, m->capacity);
        if (!m->data) {
            fputs("out of memory\n", stderr);
            exit(1);
        }
    }
    if (size)
        memcpy(m->data + m->size, data, size);
    m->size += size;
}

void pb_varint(pb *m, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)(value & 127);
        value >>= 7;
        if (value)
            byte |= 128;
        pb_raw(m, &byte, 1);
    } while (value);
}

void pb_int(pb *m, unsigned field, int64_t value)
{
    pb_varint(m, field << 3);
    pb_varint(m, (uint64_t)value);
}

void pb_bytes(pb *m, unsigned field, const void *data, size_t size)
{
    pb_varint(m, field << 3 | 2);
    pb_varint(m, size);
    pb_raw(m, data, size);
}

void pb_string(pb *m, unsigned field, const char *text)
{
    pb_bytes(m, field, text, strlen(text));
}

void pb_message(pb *m, unsigned field, pb *inner)
{
    pb_bytes(m, field, inner->data, inner->size);
    pb_free(inner);
}

void graph_io(pb *graph, unsigned field, const char *name, int32_t dtype, const dim *dims, size_t rank)
{
    pb shape = {0}, tensor = {0}, type = {0}, info = {0};
    for (size_t i = 0; i < rank; i++) {
        pb d = {0};
        if (dims[i].symbol)
            pb_string(&d, 2, dims[i].symbol);
        else
            pb_int(&d, 1, dims[i].size);
        pb_message(&shape, 1, &d);
    }
    pb_int(&tensor, 1, dtype);
    pb_message(&tensor, 2, &shape);
    pb_message(&type, 1, &tensor);
    pb_string(&info, 1, name);
    pb_message(&info, 2, &type);
    pb_message(graph, field, &info);
}

static pb tensor_head(const char *name, const int64_t *dims, size_t rank)
{
    pb tensor = {0};
    for (size_t i = 0; i < rank; i++)
        pb_int(&tensor, 1, dims[i]);
    pb_int(&tensor, 2, 1);
    pb_string(&tensor, 8, name);
    return tensor;
}

void graph_constant(pb *graph, const char *name, const int64_t *dims, size_t rank, const float *values, size_t count)
{
    pb tensor = tensor_head(name, dims, rank);
    pb_bytes(&tensor, 9, values, count * sizeof *values);
    pb_message(graph, 5, &tensor);
}

static void external_entry(pb *tensor, const char *key, const char *value)
{
    pb entry = {0};
    if (!value)
        return;
    pb_string(&entry, 1, key);
    pb_string(&entry, 2, value);
    pb_message(tensor, 13, &entry);
}

void graph_external(pb *graph, const char *name, const int64_t *dims, size_t rank, const char *location,
                    const char *offset, const char *length)
{
    pb tensor = tensor_head(name, dims, rank);
    external_entry(&tensor, "location", location);
    external_entry(&tensor, "offset", offset);
    external_entry(&tensor, "length", length);
    pb_int(&tensor, 14, 1);
    pb_message(graph, 5, &tensor);
}

void graph_node(pb *graph, const char *name, const char *op_type, const char *domain, const char *first,
                const char *second, const char *output)
{
    pb node = {0};
    pb_string(&node, 1, first);
    if (second)
        pb_string(&node, 1, second);
    pb_string(&node, 2, output);
    pb_string(&node, 3, name);
    pb_string(&node, 4, op_type);
    if (*domain)
        pb_string(&node, 7, domain);
    pb_message(graph, 1, &node);
}

pb model_of(pb *graph)
{
    pb model = {0}, opset = {0}, metadata = {0};
    pb_string(graph, 2, "test");
    pb_int(&model, 1, 8);
    pb_string(&model, 2, "mezzo-tests");
    pb_string(&model, 3, "1.5");
    pb_message(&model, 7, graph);
    pb_string(&opset, 1, "");
    pb_int(&opset, 2, 17);
    pb_message(&model, 8, &opset);
    pb_string(&opset, 1, "com.example");
    pb_int(&opset, 2, 3);
    pb_message(&model, 8, &opset);
    pb_string(&metadata, 1, "author");
    pb_bytes(&metadata, 2, "a\0b", 3);
    pb_message(&model, 14, &metadata);
    return model;
}

static pb linear(pb graph)
{
    const dim x[] = {{0, "N"}, {3, NULL}}, y[] = {{0, "N"}, {2, NULL}};
    graph_constant(&graph, "b", bias_dims, 1, linear_bias, 2);
    graph_node(&graph, "mul", "MatMul", "", "x", "W", "xw");
    graph_node(&graph, "add", "Add", "", "xw", "b", "sum");
    graph_node(&graph, "relu", "Relu", "", "sum", NULL, "y");
    graph_io(&graph, 11, "x", 1, x, 2);
    graph_io(&graph, 12, "y", 1, y, 2);
    return model_of(&graph);
}

pb linear_model(void)
{
    pb graph = {0};
    graph_constant(&graph, "W", weight_dims, 2, linear_weights, 6);
    return linear(graph);
}

pb linear_model_external(const char *location, const char *offset, const char *length)
{
    pb graph = {0};
    graph_external(&graph, "W", weight_dims, 2, location, offset, length);
    return linear(graph);
}
