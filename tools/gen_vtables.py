#!/usr/bin/env python3
"""Writes src/sys/tensorrt/tables.rs: the slots and enumerators of TensorRT that Mezzo uses, per family of versions.

    tools/gen_vtables.py            write it
    tools/gen_vtables.py --check    compare it with the committed file; exit code 1 if they differ

The facts stand in tools/tensorrt_slots.tsv and tools/tensorrt_enums.tsv. Add a method to METHODS, or an enumeration to
ENUMS, when Rust code starts to use it; a method must have the same meaning in every family, and its signatures are
printed into the generated file for whoever types the call.
"""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "src/sys/tensorrt/tables.rs"
# The order is that of `Family` in src/sys/tensorrt/version.rs.
FAMILIES = ["8.5", "8.6", "10", "11", "rtx1.3", "rtx1.5"]

METHODS = """
VBuilder.createBuilderConfig VBuilder.createNetworkV2 VBuilder.createOptimizationProfile
VBuilder.buildSerializedNetwork
VNetworkDefinition.getNbLayers VNetworkDefinition.getLayer VNetworkDefinition.getNbInputs VNetworkDefinition.getInput
VNetworkDefinition.getNbOutputs VNetworkDefinition.getOutput
VTensor.getName VTensor.getDimensions VTensor.getType VTensor.setType VTensor.isShapeTensor
VLayer.getType VLayer.getName VLayer.getNbInputs VLayer.getInput VLayer.getNbOutputs VLayer.getOutput
VLayer.setPrecision VLayer.setOutputType
VBuilderConfig.setFlag VBuilderConfig.clearFlag VBuilderConfig.getFlag VBuilderConfig.addOptimizationProfile
VBuilderConfig.setMemoryPoolLimit VBuilderConfig.setBuilderOptimizationLevel VBuilderConfig.setProgressMonitor
VBuilderConfig.setProfilingVerbosity VBuilderConfig.setTacticSources VBuilderConfig.createTimingCache
VBuilderConfig.setTimingCache VBuilderConfig.setHardwareCompatibilityLevel VBuilderConfig.setMaxAuxStreams
VBuilderConfig.setNbComputeCapabilities VBuilderConfig.setComputeCapability
VTimingCache.serialize VTimingCache.combine
VOptimizationProfile.setDimensions VOptimizationProfile.setShapeValues VOptimizationProfile.setShapeValuesV2
VOptimizationProfile.isValid
VHostMemory.data VHostMemory.size
IParser.parse IParser.parseFromFile IParser.loadModelProto IParser.loadInitializer IParser.parseModelProto
IParser.getNbErrors IParser.getError IParser.~IParser.D0
IParserError.code IParserError.desc IParserError.node IParserError.nodeName IParserError.nodeOperator
ILogger.log ILogger.~ILogger.D1 ILogger.~ILogger.D0 ILogger.getAPILanguage ILogger.getInterfaceInfo
IProgressMonitor.getAPILanguage IProgressMonitor.getInterfaceInfo IProgressMonitor.~IProgressMonitor.D1
IProgressMonitor.~IProgressMonitor.D0 IProgressMonitor.phaseStart IProgressMonitor.stepComplete
IProgressMonitor.phaseFinish
VRuntime.deserializeCudaEngine
VCudaEngine.createExecutionContext VCudaEngine.createExecutionContextWithoutDeviceMemory VCudaEngine.getDeviceMemorySize
VCudaEngine.getDeviceMemorySizeV2 VExecutionContext.setDeviceMemory VExecutionContext.setDeviceMemoryV2
VCudaEngine.createEngineInspector VCudaEngine.getTensorShape
VCudaEngine.getTensorDataType VCudaEngine.getTensorLocation VCudaEngine.getTensorIOMode VCudaEngine.getNbIOTensors
VCudaEngine.getIOTensorName VCudaEngine.getNbOptimizationProfiles VCudaEngine.getProfileShape
VExecutionContext.setOptimizationProfileAsync VExecutionContext.setInputShape VExecutionContext.getTensorShape
VExecutionContext.setTensorAddress VExecutionContext.inferShapes VExecutionContext.setOutputAllocator
VExecutionContext.enqueueV3 VExecutionContext.setProfiler VExecutionContext.setEnqueueEmitsProfile
VEngineInspector.setExecutionContext VEngineInspector.getEngineInformation
IOutputAllocator.getInterfaceVersion IOutputAllocator.getAPILanguage IOutputAllocator.getInterfaceInfo
IOutputAllocator.reallocateOutput IOutputAllocator.reallocateOutputAsync IOutputAllocator.notifyShape
IOutputAllocator.~IOutputAllocator.D1 IOutputAllocator.~IOutputAllocator.D0
IProfiler.getAPILanguage IProfiler.getInterfaceInfo IProfiler.reportLayerTime IProfiler.~IProfiler.D1
IProfiler.~IProfiler.D0
""".split()

ENUMS = ["DataType", "NetworkDefinitionCreationFlag", "BuilderFlag", "LayerType", "MemoryPoolType", "OptProfileSelector",
         "ParserErrorCode", "TensorIOMode", "TensorLocation", "LayerInformationFormat", "ProfilingVerbosity", "TacticSource",
         "HardwareCompatibilityLevel", "ComputeCapability"]


def rows(name):
    """The rows of a table, without comments and header."""
    lines = (ROOT / "tools" / name).read_text().splitlines()
    lines = [line.split("\t") for line in lines if not line.startswith("#")]
    return lines[1:]


def version(text):
    """"10.8" as 100800; no text is 0."""
    parts = [int(p) for p in text.split(".")] if text else [0]
    parts += [0] * (3 - len(parts))
    return parts[0] * 10000 + parts[1] * 100 + parts[2]


def cells(found):
    """family -> [(from, value)] as a Rust array of slices, one per family."""
    def one(family):
        entries = sorted(found.get(family, []))
        return "&[" + ", ".join(f"({start}, {value})" for start, value in entries) + "]"
    return "[" + ", ".join(one(f) for f in FAMILIES) + "]"


def variant(method):
    """VBuilder.createNetworkV2 -> BuilderCreateNetworkV2; IParser.~IParser.D0 -> ParserDelete."""
    cls, name = method.split(".", 1)
    if name.startswith("~"):
        name = {"D0": "delete", "D1": "destroy"}[name.rsplit(".", 1)[1]]
    return cls[1:] + name[0].upper() + name[1:]


def public(method):
    """VBuilder.createNetworkV2 -> IBuilder::createNetworkV2, as NVIDIA's documentation has it."""
    cls, name = method.split(".", 1)
    return f"I{cls[1:]}::{name.split('.')[0]}"


def methods():
    """The enum of methods and the table of their slots."""
    table = {}
    for cls, family, method, slot, start, signature in rows("tensorrt_slots.tsv"):
        entry = table.setdefault(f"{cls}.{method}", ({}, []))
        entry[0].setdefault(family, []).append((version(start), "GONE" if slot == "-" else int(slot)))
        if signature not in entry[1]:
            entry[1].append(signature)
    unknown = [m for m in METHODS if m not in table]
    if unknown:
        sys.exit(f"tools/tensorrt_slots.tsv does not have: {', '.join(unknown)}")
    out = ["/// Methods of TensorRT's objects.", "#[derive(Debug, Clone, Copy, PartialEq, Eq)]", "pub enum Method {"]
    for m in METHODS:
        out += [f"    /// `{s}`" + ("" if s is table[m][1][-1] else ", or") for s in table[m][1]]
        out.append(f"    {variant(m)},")
    out += ["}", "", "/// Their slots, in the order of [`Method`].", f"pub static METHODS: [MethodRow; {len(METHODS)}] = ["]
    for m in METHODS:
        out.append(f'    MethodRow {{ name: "{public(m)}", slots: {cells(table[m][0])} }},')
    return out + ["];", ""]


def enums():
    """One table for each enumeration."""
    table = {}
    for enum, family, enumerator, value, start in rows("tensorrt_enums.tsv"):
        entry = table.setdefault(enum, {}).setdefault(enumerator, {})
        entry.setdefault(family, []).append((version(start), "GONE" if value == "-" else int(value)))
    out = []
    for enum in ENUMS:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum).upper()
        out += [f"/// `{enum}`.", f"pub static {name}: &[Enumerator] = &["]
        for enumerator, found in table[enum].items():
            out.append(f'    Enumerator {{ name: "{enumerator[1:]}", values: {cells(found)} }},')
        out += ["];", ""]
    return out


def main():
    """Writes or compares."""
    text = "\n".join([
        "// Generated by tools/gen_vtables.py from tools/tensorrt_slots.tsv and tools/tensorrt_enums.tsv: do not edit.",
        "//! Where TensorRT's methods stand in its virtual tables, and what its enumerators are worth, per family.", "",
        "use super::lookup::{Enumerator, GONE, MethodRow};", "", *methods(), *enums()])
    if " GONE)" not in text:
        text = text.replace("Enumerator, GONE, MethodRow", "Enumerator, MethodRow")
    formatted = subprocess.run(["rustfmt", "--edition", "2024", "--config-path", str(ROOT)], input=text, text=True,
                               capture_output=True, check=True).stdout
    if "--check" not in sys.argv[1:]:
        OUTPUT.write_text(formatted)
    elif OUTPUT.read_text() != formatted:
        sys.exit(f"{OUTPUT.relative_to(ROOT)} is not what tools/gen_vtables.py writes: run it")


if __name__ == "__main__":
    main()
