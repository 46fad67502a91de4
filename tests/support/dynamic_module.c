/* A dynamic module for Envoy's HTTP filters (ABI v0.1.0): it adds `x-module: <its configuration>` to requests and
   answers, or the filter's name where it has none. The configuration `bad` it refuses. Declared here is only what it uses. */
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *ptr;
  size_t length;
} buffer;

extern bool envoy_dynamic_module_callback_http_set_header(void *filter, int headers, buffer name, buffer value);

enum { OF_REQUEST = 0, OF_ANSWER = 2, GO_ON = 0 };

const char *envoy_dynamic_module_on_program_init(void) { return "v0.1.0"; }

void *envoy_dynamic_module_on_http_filter_config_new(void *envoy, buffer name, buffer config) {
  (void)envoy;
  buffer said = config.length > 0 ? config : name;
  char *text = malloc(said.length + 1);
  memcpy(text, said.ptr, said.length);
  text[said.length] = '\0';
  if (strcmp(text, "bad") != 0)
    return text;
  free(text);
  return NULL;
}

void envoy_dynamic_module_on_http_filter_config_destroy(void *text) { free(text); }

void *envoy_dynamic_module_on_http_filter_new(void *text, void *envoy) { return (void)envoy, text; }

static int mark(void *envoy, int headers, const char *text) {
  buffer name = {"x-module", 8}, value = {text, strlen(text)};
  envoy_dynamic_module_callback_http_set_header(envoy, headers, name, value);
  return GO_ON;
}

int envoy_dynamic_module_on_http_filter_request_headers(void *envoy, void *text, bool end) {
  return (void)end, mark(envoy, OF_REQUEST, text);
}

int envoy_dynamic_module_on_http_filter_response_headers(void *envoy, void *text, bool end) {
  return (void)end, mark(envoy, OF_ANSWER, text);
}

/* Envoy asks for all of these; none has anything to do. */
#define IDLE(what)                                                                                                     \
  int envoy_dynamic_module_on_http_filter_##what(void) { return GO_ON; }
IDLE(destroy) IDLE(request_body) IDLE(request_trailers) IDLE(response_body) IDLE(response_trailers)
IDLE(stream_complete) IDLE(http_callout_done) IDLE(http_stream_headers) IDLE(http_stream_data)
IDLE(http_stream_trailers) IDLE(http_stream_complete) IDLE(http_stream_reset) IDLE(scheduled) IDLE(local_reply)
IDLE(downstream_above_write_buffer_high_watermark) IDLE(downstream_below_write_buffer_low_watermark)
