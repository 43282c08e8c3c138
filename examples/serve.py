r"""Serving the SavedModel over HTTP: a JPEG or PNG in, its embedding out as JSON.

    python -m examples.serve runs/photos 8500
    curl --data-binary @cat.jpg http://localhost:8500

For one machine and few users; TensorFlow Serving takes the same directory for many. To look at
the model or run it once, without a line of Python:

    saved_model_cli show --dir runs/photos/saved_model --tag_set serve \
        --signature_def serving_default
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import tensorflow as tf


def server(workdir: str, port: int) -> ThreadingHTTPServer:
    """A server that is ready to `serve_forever`; port 0 takes any that is free."""
    encoder = tf.saved_model.load(f"{workdir}/saved_model")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                # By way of the model: a signature alone does not keep its variables alive.
                outputs = encoder.signatures["encoded"](encoded=tf.constant([content]))
                found = outputs["embedding"].numpy()[0]
                status, answer = 200, {"embedding": found.tolist()}
            except tf.errors.InvalidArgumentError:
                status, answer = 400, {"error": "expected a JPEG, PNG, GIF or BMP file"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    return ThreadingHTTPServer(("localhost", port), Handler)


if __name__ == "__main__":
    server(sys.argv[1], int(sys.argv[2])).serve_forever()
