"""Fine-tuned encoders as graphs for ONNX Runtime and OpenVINO.

| format | file | made from | runs on |
|---|---|---|---|
| onnx | onnx/model.onnx | the model (:mod:`.onnx`) | ONNX Runtime |
| onnx-int8 | onnx/model.onnx | that graph, without any texts (:mod:`.onnx_int8`) | ONNX Runtime |
| openvino | openvino/model.xml | that graph (:mod:`.openvino`) | OpenVINO |
| openvino-int8 | openvino/model.xml | that graph, calibrated on texts (:mod:`.openvino_int8`) | OpenVINO |
"""
