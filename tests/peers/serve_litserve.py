"""A generation of coft behind LitServe, which batches by itself: POST the bytes of an image to /predict.

Run:  python serve_litserve.py GENERATION --port PORT --threads N
"""

from typing import Annotated

import litserve
import numpy as np
from fastapi import Body
from serving import Classifier, arguments

MAX_BATCH = 16  # coftd's


class Api(litserve.LitAPI):
    def __init__(self, args):
        # A batch is what waits when the one before it is done: with a timeout, 1 and 4 clients are answered later, 16 no sooner.
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=0)
        self.args = args

    def setup(self, device):
        self.classifier = Classifier(self.args.generation, self.args.threads)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]):
        return self.classifier.prepare(request)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, pixels):
        return self.classifier.run(pixels)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"labels": output}


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    server = litserve.LitServer(Api(args), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="warning", access_log=False)
