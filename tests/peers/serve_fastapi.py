"""A generation of coft behind FastAPI and uvicorn: POST the bytes of an image to /predict.

Run:  python serve_fastapi.py GENERATION --port PORT --threads N [--decoder pillow|simplejpeg]
"""

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from serving import DECODERS, Classifier, arguments

parser = arguments(__doc__)
parser.add_argument("--decoder", choices=DECODERS, default="pillow")
args = parser.parse_args()
classifier = Classifier(args.generation, args.threads, args.decoder)
app = FastAPI()


def classify(data):
    return classifier.run(classifier.prepare(data)[None])[0]


@app.post("/predict")
async def predict(request: Request):
    # Decoding and the session let go of the interpreter's lock: on threads, several requests are under way at once.
    return JSONResponse({"labels": await run_in_threadpool(classify, await request.body())})


uvicorn.run(app, host="127.0.0.1", port=args.port, access_log=False, log_level="warning")
