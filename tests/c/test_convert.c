/* Conversion, its options and its report. */
#include "check.h"
#include "onnx_writer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static mezzo_model_t *digits(void)
{
    mezzo_model_t *model = NULL;
    OK(mezzo_model_load_file(NULL, fixture("digits/digits.onnx"), NULL, &model));
    return model;
}

static void converted(void)
{
    mezzo_model_t *model = digits(), *half = UNTOUCHED, *again = NULL;
    mezzo_report_t *report = NULL;
    OK(mezzo_model_convert(model, NULL, &half, &report));
    CHECK(mezzo_io_dtype(mezzo_model_input(half, 0)) == MEZZO_DTYPE_FP16);
    CHECK(mezzo_io_dtype(mezzo_model_output(half, 0)) == MEZZO_DTYPE_FP16);
    CHECK(mezzo_io_dtype(mezzo_model_input(model, 0)) == MEZZO_DTYPE_FP32); /* the given model stays */
    CHECK(mezzo_model_weight_bytes(half) < mezzo_model_weight_bytes(model));

    CHECK(strcmp(mezzo_report_precision(report), "fp16") == 0 && strcmp(mezzo_report_policy(report), "safe") == 0);
    CHECK(mezzo_report_half_nodes(report) > 0 && mezzo_report_half_tensors(report) > 0);
    CHECK(mezzo_report_bytes_before(report) > mezzo_report_bytes_after(report));
    size_t half_nodes = 0, float_nodes = 0;
    for (size_t i = 0; i < mezzo_report_node_count(report); i++) {
        CHECK(*mezzo_report_node_op_type(report, i) && *mezzo_report_node_output(report, i));
        if (strcmp(mezzo_report_node_precision(report, i), "fp32") == 0) {
            float_nodes++;
            CHECK(*mezzo_report_node_rule(report, i) && *mezzo_report_node_reason(report, i));
        } else {
            half_nodes++;
            CHECK(!*mezzo_report_node_rule(report, i));
        }
    }
    CHECK(half_nodes == mezzo_report_half_nodes(report) && float_nodes == mezzo_report_float_nodes(report));
    const size_t none = mezzo_report_node_count(report);
    CHECK(!*mezzo_report_node_name(report, none) && !*mezzo_report_node_scope(report, none));
    CHECK(!*mezzo_report_node_tensor(report, none) && isnan(mezzo_report_node_value(report, none)));
    CONTAINS(mezzo_report_to_json(report), "\"half_nodes\"");
    CONTAINS(mezzo_report_to_text(report), "fp16");
    CHECK(mezzo_report_to_text(report) == mezzo_report_to_text(report));
    for (size_t i = 0; i < mezzo_report_constant_count(report); i++) {
        CHECK(*mezzo_report_constant_name(report, i) && mezzo_report_constant_elements(report, i) > 0);
        CHECK(mezzo_report_constant_clamped(report, i) + mezzo_report_constant_flushed(report, i) +
                  mezzo_report_constant_subnormal(report, i) > 0);
        CHECK(mezzo_report_constant_max_abs(report, i) >= 0);
    }
    for (size_t i = 0; i < mezzo_report_note_count(report); i++)
        CHECK(*mezzo_report_note(report, i));
    CHECK(!mezzo_report_note(report, mezzo_report_note_count(report)));

    /* The report outlives the models; the half model outlives the one it shares weights with. */
    mezzo_model_free(model);
    OK(mezzo_model_save_file(half, scratch("half.onnx"), NULL));
    OK(mezzo_model_load_file(NULL, scratch("half.onnx"), NULL, &again));
    CHECK(mezzo_model_weight_bytes(again) == mezzo_model_weight_bytes(half));
    mezzo_model_free(again);

    /* Without a report; a second time. */
    OK(mezzo_model_convert(half, NULL, &again, NULL));
    CHECK(mezzo_model_node_count(again) == mezzo_model_node_count(half));
    mezzo_model_free(again);
    mezzo_model_free(half);
    CHECK(mezzo_report_casts_added(report) == 0);
    mezzo_report_free(report);
}

static void options(void)
{
    mezzo_model_t *model = digits(), *half = NULL;
    mezzo_report_t *report = NULL;
    mezzo_convert_options_t *o = mezzo_convert_options_new();
    OK(mezzo_convert_options_set_keep_io(o, true));
    OK(mezzo_convert_options_keep_op_type(o, "Gemm"));
    OK(mezzo_model_convert(model, o, &half, &report));
    CHECK(mezzo_io_dtype(mezzo_model_input(half, 0)) == MEZZO_DTYPE_FP32);
    CHECK(mezzo_io_dtype(mezzo_model_output(half, 0)) == MEZZO_DTYPE_FP32);
    CHECK(mezzo_report_float_nodes(report) >= 2 && mezzo_report_casts_added(report) > 0);
    for (size_t i = 0; i < mezzo_report_node_count(report); i++)
        if (strcmp(mezzo_report_node_op_type(report, i), "Gemm") == 0)
            CHECK(strcmp(mezzo_report_node_precision(report, i), "fp32") == 0);
    mezzo_report_free(report);
    mezzo_model_free(half);

    OK(mezzo_convert_options_keep_io_of(o, "image", false));
    OK(mezzo_model_convert(model, o, &half, NULL));
    CHECK(mezzo_io_dtype(mezzo_model_input(half, 0)) == MEZZO_DTYPE_FP16);
    CHECK(mezzo_io_dtype(mezzo_model_output(half, 0)) == MEZZO_DTYPE_FP32);
    mezzo_model_free(half);

    half = UNTOUCHED;
    report = UNTOUCHED;
    OK(mezzo_convert_options_keep_io_of(o, "no_such_input", true));
    REFUSED(mezzo_model_convert(model, o, &half, &report), MEZZO_ERROR_NOT_FOUND, "no_such_input");
    REFUSED(mezzo_model_convert(model, NULL, NULL, &report), MEZZO_ERROR_INVALID_ARGUMENT, "'converted'", "NULL");
    CHECK(half == UNTOUCHED && report == UNTOUCHED);
    mezzo_convert_options_free(o);

    o = mezzo_convert_options_new();
    OK(mezzo_convert_options_keep_op_type(o, "Conv"));
    OK(mezzo_convert_options_keep_op_type(o, "Gemm"));
    OK(mezzo_convert_options_set_min_half_share(o, 0.9));
    REFUSED(mezzo_model_convert(model, o, &half, &report), MEZZO_ERROR_PRECISION, "90.0 %", "kept_by_user");
    CHECK(half == UNTOUCHED && report == UNTOUCHED);
    mezzo_convert_options_free(o);

    o = mezzo_convert_options_new();
    OK(mezzo_convert_options_keep_node(o, "*"));
    OK(mezzo_convert_options_keep_output(o, "logits"));
    OK(mezzo_convert_options_declare(o, "unused", MEZZO_DTYPE_FP32));
    OK(mezzo_convert_options_set_policy(o, MEZZO_POLICY_PURE));
    OK(mezzo_convert_options_set_constants(o, MEZZO_CONSTANTS_CLAMP));
    OK(mezzo_convert_options_set_precision(o, MEZZO_DTYPE_FP16));
    half = UNTOUCHED;
    report = UNTOUCHED;
    OK(mezzo_convert_options_set_opset(o, 12));
    REFUSED(mezzo_model_convert(model, o, &half, &report), MEZZO_ERROR_INVALID_ARGUMENT, "17", "12");
    CHECK(half == UNTOUCHED && report == UNTOUCHED);
    REFUSED(mezzo_convert_options_declare(o, NULL, MEZZO_DTYPE_FP32), MEZZO_ERROR_INVALID_ARGUMENT, "'tensor'", "NULL");
    OK(mezzo_convert_options_set_opset(o, 22));
    OK(mezzo_model_convert(model, o, &half, &report));
    CHECK(mezzo_model_opset(half, "") == 22 && mezzo_model_opset(model, "") == 17);
    CHECK(mezzo_report_half_nodes(report) == 0 && strcmp(mezzo_report_policy(report), "pure") == 0);
    mezzo_report_free(report);
    mezzo_model_free(half);
    mezzo_convert_options_free(o);
    mezzo_model_free(model);
}

/* An operator that ONNX does not know stays in FP32 once its output's type is declared. */
static void declared_types(void)
{
    const dim dims[] = {{4, NULL}};
    pb graph = {0};
    graph_io(&graph, 11, "x", 1, dims, 1);
    graph_io(&graph, 12, "y", 1, dims, 1);
    graph_node(&graph, "ours", "Frobnicate", "com.example", "x", NULL, "a");
    graph_node(&graph, "relu", "Relu", "", "a", NULL, "y");
    pb bytes = model_of(&graph);
    mezzo_model_t *model = NULL, *half = UNTOUCHED;
    mezzo_report_t *report = NULL;
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model));
    REFUSED(mezzo_model_convert(model, NULL, &half, NULL), MEZZO_ERROR_UNSUPPORTED, "Frobnicate", "'a'");
    CHECK(half == UNTOUCHED);
    mezzo_convert_options_t *o = mezzo_convert_options_new();
    REFUSED(mezzo_convert_options_declare(o, "a", 1000), MEZZO_ERROR_INVALID_ARGUMENT, "'dtype'", "1000");
    OK(mezzo_convert_options_declare(o, "a", MEZZO_DTYPE_FP32));
    OK(mezzo_model_convert(model, o, &half, &report));
    CHECK(mezzo_report_half_nodes(report) == 1 && mezzo_report_float_nodes(report) == 1);
    mezzo_report_free(report);
    mezzo_model_free(half);
    mezzo_model_free(model);
    mezzo_convert_options_free(o);
    pb_free(&bytes);
}

/* What leaves half's range on a sample stays in FP32, and the report says so. */
static void calibrated(void)
{
    const dim dims[] = {{4, NULL}};
    pb graph = {0};
    graph_io(&graph, 11, "x", 1, dims, 1);
    graph_io(&graph, 12, "y", 1, dims, 1);
    graph_node(&graph, "square", "Mul", "", "x", "x", "s");
    graph_node(&graph, "root", "Sqrt", "", "s", NULL, "r");
    graph_node(&graph, "tail", "Relu", "", "r", NULL, "y");
    pb bytes = model_of(&graph);
    mezzo_model_t *model = NULL, *half = NULL;
    mezzo_report_t *report = NULL;
    mezzo_calibrator_t *calibrator = NULL;
    mezzo_value_t *value = NULL;
    double min = 1, max = 1;
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model));
    OK(mezzo_calibrator_new(NULL, model, &calibrator));
    REFUSED(mezzo_calibrator_range(calibrator, "s", &min, &max), MEZZO_ERROR_NOT_FOUND, "'s'");
    REFUSED(mezzo_calibrator_run(calibrator, NULL, NULL, 0), MEZZO_ERROR_INVALID_STATE, "'x'");
    REFUSED(mezzo_calibrator_range(calibrator, NULL, &min, &max), MEZZO_ERROR_INVALID_ARGUMENT, "'tensor'", "NULL");
    REFUSED(mezzo_calibrator_range(calibrator, "s", NULL, &max), MEZZO_ERROR_INVALID_ARGUMENT, "'min'", "NULL");
    REFUSED(mezzo_calibrator_range(calibrator, "s", &min, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'max'", "NULL");
    REFUSED(mezzo_calibrator_run(calibrator, NULL, NULL, 1), MEZZO_ERROR_INVALID_ARGUMENT, "'names'", "NULL");
    REFUSED(mezzo_calibrator_new(NULL, model, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'calibrator'", "NULL");
    CHECK(min == 1 && max == 1 && mezzo_calibrator_samples(calibrator) == 0);

    const float numbers[] = {1, 2, 3, -300};
    const int64_t shape[] = {4};
    OK(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP32, shape, 1, numbers, sizeof numbers, &value));
    const char *names[] = {"x"};
    const mezzo_value_t *values[] = {value};
    OK(mezzo_calibrator_run(calibrator, names, values, 1));
    OK(mezzo_calibrator_run_random(calibrator, 7));
    CHECK(mezzo_calibrator_samples(calibrator) == 2 && mezzo_calibrator_samples(NULL) == 0);
    OK(mezzo_calibrator_range(calibrator, "s", &min, &max));
    CHECK(max == 90000 && min >= 0 && min < 1);

    mezzo_convert_options_t *o = mezzo_convert_options_new();
    OK(mezzo_convert_options_set_calibration(o, calibrator));
    mezzo_calibrator_free(calibrator);
    OK(mezzo_model_convert(model, o, &half, &report));
    CHECK(mezzo_report_half_nodes(report) == 1 && mezzo_report_float_nodes(report) == 2);
    CHECK(strcmp(mezzo_report_node_rule(report, 0), "range") == 0 && strcmp(mezzo_report_node_tensor(report, 0), "s") == 0);
    CHECK(mezzo_report_node_value(report, 0) == 90000);
    CONTAINS(mezzo_report_to_text(report), "2 samples");
    mezzo_report_free(report);
    mezzo_model_free(half);
    OK(mezzo_convert_options_set_calibration(o, NULL));
    OK(mezzo_model_convert(model, o, &half, &report));
    CHECK(mezzo_report_half_nodes(report) == 3);
    mezzo_report_free(report);
    mezzo_model_free(half);
    mezzo_convert_options_free(o);
    mezzo_value_free(value);
    mezzo_model_free(model);
    pb_free(&bytes);
}

static void bad_options(void)
{
    mezzo_convert_options_t *o = mezzo_convert_options_new();
    REFUSED(mezzo_convert_options_set_precision(o, MEZZO_DTYPE_INT8), MEZZO_ERROR_INVALID_ARGUMENT, "'precision'", "int8",
            "fp16 or bf16");
    REFUSED(mezzo_convert_options_set_precision(o, 1000), MEZZO_ERROR_INVALID_ARGUMENT, "'precision'", "1000");
    REFUSED(mezzo_convert_options_set_policy(o, 5), MEZZO_ERROR_INVALID_ARGUMENT, "'policy'", "5");
    REFUSED(mezzo_convert_options_set_constants(o, -1), MEZZO_ERROR_INVALID_ARGUMENT, "'constants'", "-1");
    REFUSED(mezzo_convert_options_set_min_half_share(o, 1.5), MEZZO_ERROR_INVALID_ARGUMENT, "'share'", "1.5");
    REFUSED(mezzo_convert_options_set_min_half_share(o, NAN), MEZZO_ERROR_INVALID_ARGUMENT, "'share'", "NaN");
    REFUSED(mezzo_convert_options_keep_node(o, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'pattern'", "NULL");
    OK(mezzo_convert_options_set(o, "precision", "bf16"));
    OK(mezzo_convert_options_set(o, "keep_io", "true"));
    OK(mezzo_convert_options_set(o, "keep_io_of", "a, b"));
    OK(mezzo_convert_options_set(o, "convert_io_of", "c"));
    OK(mezzo_convert_options_set(o, "keep_op_types", "Softmax,LayerNormalization"));
    OK(mezzo_convert_options_set(o, "keep_nodes", "/head/*"));
    OK(mezzo_convert_options_set(o, "keep_outputs", "t"));
    OK(mezzo_convert_options_set(o, "declare", "features=int64"));
    OK(mezzo_convert_options_set(o, "opset", "18"));
    REFUSED(mezzo_convert_options_set(o, "opset", "5"), MEZZO_ERROR_INVALID_ARGUMENT, "'5'");
    REFUSED(mezzo_convert_options_set_opset(o, 1000), MEZZO_ERROR_INVALID_ARGUMENT, "'version'", "1000", "7 to");
    OK(mezzo_convert_options_set(o, "policy", "pure"));
    OK(mezzo_convert_options_set(o, "constants", "error"));
    OK(mezzo_convert_options_set(o, "min_half_share", "0.5"));
    REFUSED(mezzo_convert_options_set(o, "min_half_share", "2"), MEZZO_ERROR_INVALID_ARGUMENT, "'2'", "from 0 to 1");
    REFUSED(mezzo_convert_options_set(o, "precision", "fp32"), MEZZO_ERROR_INVALID_ARGUMENT, "'fp32'", "fp16 or bf16");
    REFUSED(mezzo_convert_options_set(o, "keep_nodes", "a,,b"), MEZZO_ERROR_INVALID_ARGUMENT, "'a,,b'");
    REFUSED(mezzo_convert_options_set(o, "keepio", "true"), MEZZO_ERROR_NOT_FOUND, "'keepio'", "'keep_io'",
            "'min_half_share'");
    mezzo_convert_options_free(o);
}

void test(void)
{
    declared_types();
    calibrated();
    bad_options();
    converted();
    options();
}
