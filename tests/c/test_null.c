/* Every function with NULL for everything: those that can fail say which argument, the others answer their neutral
 * value. tests/run_c_tests.sh checks that no function is left out of the tests. */
#include "check.h"

#include <math.h>
#include <string.h>

/* The first argument that may not be NULL is named, and so is the function. */
#define NULLS(function, argument, ...)                                                                                 \
    REFUSED(function(__VA_ARGS__), MEZZO_ERROR_INVALID_ARGUMENT, "'" argument "'", #function, "NULL")

static void calls_that_can_fail(void)
{
    NULLS(mezzo_dtype_from_name, "name", NULL, NULL);
    NULLS(mezzo_env_options_set_log, "options", NULL, NULL, NULL, NULL);
    NULLS(mezzo_env_options_set_log_level, "options", NULL, 1);
    NULLS(mezzo_env_options_set_allocator, "options", NULL, NULL, NULL, NULL, NULL);
    NULLS(mezzo_env_options_set_threads, "options", NULL, 0);
    NULLS(mezzo_env_options_set_cache_dir, "options", NULL, NULL);
    NULLS(mezzo_env_options_add_library_path, "options", NULL, NULL);
    NULLS(mezzo_env_options_set, "options", NULL, NULL, NULL);
    NULLS(mezzo_env_new, "env", NULL, NULL);
    NULLS(mezzo_env_log, "message", NULL, 1, NULL);
    NULLS(mezzo_buffer_new, "buffer", NULL, 0, NULL);
    NULLS(mezzo_buffer_from_memory, "buffer", NULL, 0, NULL, NULL, NULL);
    NULLS(mezzo_buffer_copy_in, "buffer", NULL, 0, NULL, 0);
    NULLS(mezzo_buffer_copy_out, "buffer", NULL, 0, NULL, 0);
    NULLS(mezzo_value_copy_in, "value", NULL, NULL, 0);
    NULLS(mezzo_value_copy_out, "value", NULL, NULL, 0);
    NULLS(mezzo_value_string, "value", NULL, 0, NULL, NULL);
    NULLS(mezzo_value_member, "value", NULL, 0, NULL);
    NULLS(mezzo_value_buffer, "value", NULL, NULL, NULL);
    NULLS(mezzo_value_to_float, "value", NULL, MEZZO_DTYPE_FP16, NULL);
    NULLS(mezzo_value_clone, "value", NULL, NULL);
    NULLS(mezzo_value_new_tensor, "value", NULL, MEZZO_DTYPE_FP32, NULL, 0, NULL);
    NULLS(mezzo_value_new_copy, "value", NULL, MEZZO_DTYPE_FP32, NULL, 0, NULL, 0, NULL);
    NULLS(mezzo_value_from_memory, "value", MEZZO_DTYPE_FP32, NULL, 0, NULL, 0, NULL, NULL, NULL);
    NULLS(mezzo_value_from_buffer, "buffer", NULL, 0, MEZZO_DTYPE_FP32, NULL, 0, NULL);
    NULLS(mezzo_value_new_strings, "strings", NULL, 0, NULL, NULL, 1, NULL);
    NULLS(mezzo_value_new_sequence, "value", NULL, 0, NULL);
    NULLS(mezzo_value_new_optional, "value", NULL, NULL);
    NULLS(mezzo_load_options_set_map, "options", NULL, 0);
    NULLS(mezzo_load_options_add_external, "options", NULL, NULL, NULL, 0, NULL, NULL);
    NULLS(mezzo_load_options_set_external_folder, "options", NULL, NULL);
    NULLS(mezzo_load_options_set, "options", NULL, NULL, NULL);
    NULLS(mezzo_save_options_set_external, "options", NULL, 0);
    NULLS(mezzo_save_options_set, "options", NULL, NULL, NULL);
    NULLS(mezzo_model_load_file, "path", NULL, NULL, NULL, NULL);
    NULLS(mezzo_model_load_memory, "model", NULL, NULL, 0, NULL, NULL, NULL, NULL);
    NULLS(mezzo_model_save_file, "model", NULL, NULL, NULL);
    NULLS(mezzo_model_save_memory, "model", NULL, NULL);
    NULLS(mezzo_model_find_input, "model", NULL, NULL, NULL);
    NULLS(mezzo_model_find_output, "model", NULL, NULL, NULL);
    NULLS(mezzo_model_find_metadata, "model", NULL, NULL, NULL);
    NULLS(mezzo_convert_options_set_precision, "options", NULL, MEZZO_DTYPE_FP16);
    NULLS(mezzo_convert_options_set_keep_io, "options", NULL, true);
    NULLS(mezzo_convert_options_keep_io_of, "options", NULL, NULL, true);
    NULLS(mezzo_convert_options_keep_op_type, "options", NULL, NULL);
    NULLS(mezzo_convert_options_keep_node, "options", NULL, NULL);
    NULLS(mezzo_convert_options_keep_output, "options", NULL, NULL);
    NULLS(mezzo_convert_options_declare, "options", NULL, NULL, MEZZO_DTYPE_FP32);
    NULLS(mezzo_convert_options_set_policy, "options", NULL, 0);
    NULLS(mezzo_convert_options_set_constants, "options", NULL, 0);
    NULLS(mezzo_convert_options_set_min_half_share, "options", NULL, 0.0);
    NULLS(mezzo_convert_options_set, "options", NULL, NULL, NULL);
    NULLS(mezzo_convert_options_set_opset, "options", NULL, 17);
    NULLS(mezzo_convert_options_set_calibration, "options", NULL, NULL);
    NULLS(mezzo_calibrator_new, "model", NULL, NULL, NULL);
    NULLS(mezzo_calibrator_run, "calibrator", NULL, NULL, NULL, 0);
    NULLS(mezzo_calibrator_run_random, "calibrator", NULL, 0);
    NULLS(mezzo_calibrator_range, "calibrator", NULL, NULL, NULL, NULL);
    NULLS(mezzo_model_convert, "model", NULL, NULL, NULL, NULL);
    NULLS(mezzo_engine_options_set_threads, "options", NULL, 1);
    NULLS(mezzo_engine_options_set_memory_limit, "options", NULL, 1);
    NULLS(mezzo_engine_options_set_progress, "options", NULL, NULL, NULL, NULL);
    NULLS(mezzo_engine_options_set, "options", NULL, NULL, NULL);
    NULLS(mezzo_engine_build, "model", NULL, NULL, NULL, NULL, NULL);
    NULLS(mezzo_engine_save_file, "engine", NULL, NULL);
    NULLS(mezzo_engine_save_plan, "engine", NULL, NULL);
    NULLS(mezzo_engine_load_plan, "path", NULL, NULL, NULL, NULL, NULL);
    NULLS(mezzo_engine_load_file, "path", NULL, NULL, NULL, NULL);
    NULLS(mezzo_engine_load_memory, "engine", NULL, NULL, 0, NULL, NULL, NULL, NULL);
    NULLS(mezzo_engine_find_input, "engine", NULL, NULL, NULL);
    NULLS(mezzo_engine_find_output, "engine", NULL, NULL, NULL);
    NULLS(mezzo_engine_random_input, "engine", NULL, NULL, NULL, 0, 0, NULL);
    NULLS(mezzo_run_options_set_cancel, "options", NULL, NULL);
    NULLS(mezzo_run_options_set_tap, "options", NULL, NULL, NULL, NULL);
    NULLS(mezzo_context_new, "engine", NULL, NULL);
    NULLS(mezzo_context_set_input_shape, "context", NULL, NULL, NULL, 0);
    NULLS(mezzo_context_bind, "context", NULL, NULL, NULL);
    NULLS(mezzo_context_bind_buffer, "context", NULL, NULL, NULL, 0);
    NULLS(mezzo_context_unbind, "context", NULL, NULL);
    NULLS(mezzo_context_run, "context", NULL, NULL);
    NULLS(mezzo_context_output, "context", NULL, NULL, NULL);
    NULLS(mezzo_context_output_shape, "context", NULL, NULL, NULL, 0, NULL);
    NULLS(mezzo_context_activation_bytes, "context", NULL, NULL);
    NULLS(mezzo_compare, "a", NULL, NULL, NULL, NULL, 0, NULL);
    OK(mezzo_convert_f32_to_f16(NULL, 0, NULL));
    OK(mezzo_convert_f16_to_f32(NULL, 0, NULL));
    OK(mezzo_convert_f32_to_bf16(NULL, 0, NULL));
    OK(mezzo_convert_bf16_to_f32(NULL, 0, NULL));
}

#define EMPTY(text) CHECK(strcmp((text), "") == 0)

static void accessors(void)
{
    CHECK(mezzo_buffer_size(NULL) == 0 && mezzo_buffer_data(NULL) == NULL);
    CHECK(mezzo_value_kind(NULL) == MEZZO_KIND_UNKNOWN && mezzo_value_dtype(NULL) == MEZZO_DTYPE_NONE);
    CHECK(mezzo_value_rank(NULL) == 0 && mezzo_value_dims(NULL) == NULL && mezzo_value_count(NULL) == 0);
    CHECK(mezzo_value_byte_size(NULL) == 0 && mezzo_value_data(NULL) == NULL);
    EMPTY(mezzo_io_name(NULL));
    EMPTY(mezzo_io_text(NULL));
    CHECK(mezzo_io_kind(NULL) == MEZZO_KIND_UNKNOWN && mezzo_io_dtype(NULL) == MEZZO_DTYPE_NONE);
    CHECK(mezzo_io_rank(NULL) == -1 && mezzo_io_dim(NULL, 0) == -1 && mezzo_io_dim_symbol(NULL, 0) == NULL);
    CHECK(mezzo_model_input_count(NULL) == 0 && mezzo_model_input(NULL, 0) == NULL);
    CHECK(mezzo_model_output_count(NULL) == 0 && mezzo_model_output(NULL, 0) == NULL);
    EMPTY(mezzo_model_producer_name(NULL));
    EMPTY(mezzo_model_producer_version(NULL));
    CHECK(mezzo_model_ir_version(NULL) == 0 && mezzo_model_opset(NULL, NULL) == 0);
    CHECK(mezzo_model_opset_count(NULL) == 0 && mezzo_model_opset_domain(NULL, 0) == NULL);
    CHECK(mezzo_model_metadata_count(NULL) == 0);
    CHECK(mezzo_model_metadata_key(NULL, 0) == NULL && mezzo_model_metadata_value(NULL, 0) == NULL);
    CHECK(mezzo_model_node_count(NULL) == 0 && mezzo_model_weight_bytes(NULL) == 0);
    EMPTY(mezzo_report_precision(NULL));
    EMPTY(mezzo_report_policy(NULL));
    CHECK(mezzo_report_half_tensors(NULL) == 0 && mezzo_report_float_tensors(NULL) == 0);
    CHECK(mezzo_report_half_nodes(NULL) == 0 && mezzo_report_float_nodes(NULL) == 0);
    CHECK(mezzo_report_casts_added(NULL) == 0 && mezzo_report_casts_removed(NULL) == 0);
    CHECK(mezzo_report_bytes_before(NULL) == 0 && mezzo_report_bytes_after(NULL) == 0);
    CHECK(mezzo_report_node_count(NULL) == 0 && isnan(mezzo_report_node_value(NULL, 0)));
    EMPTY(mezzo_report_node_name(NULL, 0));
    EMPTY(mezzo_report_node_output(NULL, 0));
    EMPTY(mezzo_report_node_op_type(NULL, 0));
    EMPTY(mezzo_report_node_scope(NULL, 0));
    EMPTY(mezzo_report_node_precision(NULL, 0));
    EMPTY(mezzo_report_node_rule(NULL, 0));
    EMPTY(mezzo_report_node_tensor(NULL, 0));
    EMPTY(mezzo_report_node_reason(NULL, 0));
    CHECK(mezzo_report_constant_count(NULL) == 0 && mezzo_report_constant_elements(NULL, 0) == 0);
    EMPTY(mezzo_report_constant_name(NULL, 0));
    CHECK(mezzo_report_constant_clamped(NULL, 0) == 0 && mezzo_report_constant_flushed(NULL, 0) == 0);
    CHECK(mezzo_report_constant_subnormal(NULL, 0) == 0 && mezzo_report_constant_max_abs(NULL, 0) == 0);
    CHECK(mezzo_report_note_count(NULL) == 0 && mezzo_report_note(NULL, 0) == NULL);
    EMPTY(mezzo_report_to_json(NULL));
    EMPTY(mezzo_report_to_text(NULL));
    CHECK(mezzo_engine_input_count(NULL) == 0 && mezzo_engine_input(NULL, 0) == NULL);
    CHECK(mezzo_engine_output_count(NULL) == 0 && mezzo_engine_output(NULL, 0) == NULL);
    EMPTY(mezzo_engine_backend(NULL));
    EMPTY(mezzo_engine_backend_version(NULL));
    EMPTY(mezzo_engine_inspect_json(NULL));
    CHECK(mezzo_engine_weight_bytes(NULL) == 0 && mezzo_engine_activation_bytes(NULL) == -1);
    CHECK(mezzo_engine_node_count(NULL) == 0 && mezzo_engine_half_nodes(NULL) == 0);
    CHECK(mezzo_engine_float_nodes(NULL) == 0);
    mezzo_cancel_request(NULL);
    mezzo_cancel_reset(NULL);
    CHECK(!mezzo_cancel_is_requested(NULL));
    CHECK(mezzo_comparison_count(NULL) == 0 && mezzo_comparison_elements(NULL, 0) == 0);
    EMPTY(mezzo_comparison_name(NULL, 0));
    EMPTY(mezzo_comparison_to_json(NULL));
    CHECK(isnan(mezzo_comparison_max_abs(NULL, 0)) && isnan(mezzo_comparison_max_rel(NULL, 0)));
    CHECK(isnan(mezzo_comparison_rms(NULL, 0)) && isnan(mezzo_comparison_cosine(NULL, 0)));
    CHECK(isnan(mezzo_comparison_top1_agreement(NULL, 0)));
    CHECK(mezzo_comparison_nan_a(NULL, 0) == 0 && mezzo_comparison_nan_b(NULL, 0) == 0);
    CHECK(mezzo_comparison_inf_a(NULL, 0) == 0 && mezzo_comparison_inf_b(NULL, 0) == 0);
    CHECK(mezzo_comparison_non_finite_mismatches(NULL, 0) == 0);
}

static void free_and_retain(void)
{
    CHECK(!mezzo_env_retain(NULL) && !mezzo_buffer_retain(NULL) && !mezzo_model_retain(NULL));
    CHECK(!mezzo_engine_retain(NULL) && !mezzo_cancel_retain(NULL));
    mezzo_error_free(NULL);
    mezzo_env_options_free(NULL);
    mezzo_env_free(NULL);
    mezzo_buffer_free(NULL);
    mezzo_value_free(NULL);
    mezzo_load_options_free(NULL);
    mezzo_save_options_free(NULL);
    mezzo_model_free(NULL);
    mezzo_convert_options_free(NULL);
    mezzo_report_free(NULL);
    mezzo_engine_options_free(NULL);
    mezzo_engine_free(NULL);
    mezzo_cancel_free(NULL);
    mezzo_run_options_free(NULL);
    mezzo_context_free(NULL);
    mezzo_comparison_free(NULL);
}

void test(void)
{
    calls_that_can_fail();
    accessors();
    free_and_retain();
}
