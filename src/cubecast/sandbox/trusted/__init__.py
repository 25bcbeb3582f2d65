"""Extensions as signed native or Python code, run in a confined process."""
